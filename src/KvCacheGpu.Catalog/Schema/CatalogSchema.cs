using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>
/// The schema of a catalog: version 1 is that of 1.x, 2 that of 2.0 and 2.1, 3 ours. Each step is embedded SQL with a checksum, and runs in one
/// transaction under a lock. A step up adds the parts that are missing, and the step down takes away the parts that it added.
/// </summary>
/// <remarks>
/// The steps are our own and not FluentMigrator's: three steps of plain SQL per database can be read before they run, they take over tables that no
/// tool has recorded, and they need neither a second way of connecting nor a runner with dependency injection.
/// Thread safety: members may be called from any thread; the database runs one step at a time.
/// </remarks>
public sealed class CatalogSchema
{
    private const string CreateRecord =
        "CREATE TABLE IF NOT EXISTS kvcache_schema (version INTEGER PRIMARY KEY, checksum TEXT NOT NULL, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, added TEXT)";

    private const string AddRecord = "INSERT INTO kvcache_schema (version, checksum, added) VALUES (@version, @checksum, @added)";
    private const string RemoveRecord = "DELETE FROM kvcache_schema WHERE version = @version";

    private readonly CatalogDatabase _database;

    /// <summary>Reads an address, without connecting.</summary>
    /// <param name="address">An address of the provider: <c>sqlite:PATH</c> or <c>postgres://user:password@host:port/name</c>, or SQLAlchemy's for either.</param>
    /// <param name="provider">The kind of database, or kinds: <see cref="CatalogProvider"/>.</param>
    /// <param name="options">The number of retries and the times to wait; the defaults if null.</param>
    /// <exception cref="CatalogException">E003: the address cannot be read.</exception>
    public CatalogSchema(string address, CatalogProvider provider, CatalogOptions? options = null)
        : this((provider ?? throw new ArgumentNullException(nameof(provider))).Open(address, options))
    {
    }

    internal CatalogSchema(CatalogDatabase database) => _database = database;

    /// <summary>The address without its secrets.</summary>
    public string Address => _database.Address;

    /// <summary>The state of the schema. Changes nothing: an SQLite file that does not exist is of version 0, and is not made.</summary>
    /// <exception cref="CatalogException">E007: the schema is of a later version. E008: the database does not answer.</exception>
    public async Task<SchemaStatus> StatusAsync(CancellationToken cancel = default) => (await LookAsync(cancel).ConfigureAwait(false)).Status;

    /// <summary>The steps that <see cref="MigrateAsync"/> or <see cref="RollbackAsync"/> would run, with their SQL.</summary>
    /// <param name="to">The version to reach, 1 to the newest; null for the newest.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <exception cref="CatalogException">E003: the schema was altered by hand. E007: it is of a later version. E008: the database does not answer.</exception>
    public async Task<IReadOnlyList<SchemaStep>> PlanAsync(int? to = null, CancellationToken cancel = default)
    {
        int target = Target(to ?? SchemaStep.Newest);
        (SchemaStatus status, TableShape shape) = await LookAsync(cancel).ConfigureAwait(false);
        int version = Unaltered(status).Version;
        if (version > target)
        {
            return [.. Enumerable.Range(target + 1, version - target).Reverse().Select(v => SchemaStep.Down(_database, v, shape))];
        }

        List<SchemaStep> steps = [];
        for (; version < target; version++)
        {
            steps.Add(SchemaStep.Up(_database, version + 1, shape));
            shape = steps[^1].AppliedTo(shape);
        }

        return steps;
    }

    /// <summary>All statements that a step runs, from its lock to its commit.</summary>
    /// <param name="step">The step.</param>
    public IReadOnlyList<string> Script(SchemaStep step)
    {
        ArgumentNullException.ThrowIfNull(step);
        string record = step.IsUp
            ? AddRecord.Replace("@version", $"{step.Version}", StringComparison.Ordinal).Replace("@checksum", $"'{step.Checksum}'", StringComparison.Ordinal)
                .Replace("@added", $"'{step.Added}'", StringComparison.Ordinal)
            : RemoveRecord.Replace("@version", $"{step.Version}", StringComparison.Ordinal);
        return [_database.Begin, .. _database.Lock, .. step.Statements, CreateRecord, record, "COMMIT"];
    }

    /// <summary>Takes the schema up to the newest version. Running it again does nothing; if two processes run it at once, each step runs once.</summary>
    /// <returns>The steps that this call ran.</returns>
    /// <exception cref="CatalogException">E003: the schema was altered by hand. E007: it is of a later version. E008: the database does not answer. Earlier steps stay; the failed one has left no trace.</exception>
    public Task<IReadOnlyList<SchemaStep>> MigrateAsync(CancellationToken cancel = default) => MoveAsync(SchemaStep.Newest, isUp: true, cancel);

    /// <summary>Takes the schema down. Values for which older versions have no column are kept in a table aside, and come back when the schema goes up again.</summary>
    /// <param name="to">The version to reach, 1 or more; null for the one below the present version.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <returns>The steps that this call ran.</returns>
    /// <exception cref="CatalogException">The errors of <see cref="MigrateAsync"/>.</exception>
    public async Task<IReadOnlyList<SchemaStep>> RollbackAsync(int? to = null, CancellationToken cancel = default)
    {
        int target = to is int version ? Target(version) : Target((await StatusAsync(cancel).ConfigureAwait(false)).Version - 1);
        return await MoveAsync(target, isUp: false, cancel).ConfigureAwait(false);
    }

    /// <summary>Refuses every schema but the newest, unaltered.</summary>
    internal async Task RequireAsync(DbConnection connection, CancellationToken cancel)
    {
        SchemaStatus status = Unaltered((await ReadAsync(connection, cancel).ConfigureAwait(false)).Status);
        if (status.Version != SchemaStep.Newest)
        {
            throw CatalogException.Invalid("catalog schema", $"version {SchemaStep.Newest}, which a migration makes", $"version {status.Version}");
        }
    }

    private static int Target(int version) => version is >= SchemaStep.Oldest and <= SchemaStep.Newest
        ? version
        : throw CatalogException.Invalid("schema version", $"{SchemaStep.Oldest} to {SchemaStep.Newest}; below lies what is not ours to drop", $"{version}");

    private static SchemaStatus Unaltered(SchemaStatus status) => status.Differences.Count == 0
        ? status
        : throw CatalogException.Invalid("catalog schema", $"version {status.Version} as its steps leave it", string.Join("; ", status.Differences));

    private Task<(SchemaStatus Status, TableShape Shape)> LookAsync(CancellationToken cancel) => _database.IsThere
        ? _database.RunAsync(c => ReadAsync(c, cancel), cancel)
        : Task.FromResult((new SchemaStatus(0, SchemaStep.Newest, false, []), new TableShape(new Dictionary<string, string>(), new Dictionary<string, string>(), null)));

    private async Task<(SchemaStatus Status, TableShape Shape)> ReadAsync(DbConnection connection, CancellationToken cancel)
    {
        TableShape shape = await _database.ShapeAsync(connection, cancel).ConfigureAwait(false);
        int version = shape.Recorded?.Keys.DefaultIfEmpty(0).Max() ?? ExpectedSchema.Infer(shape);
        if (version > SchemaStep.Newest)
        {
            throw CatalogException.Newer(SchemaStep.Newest, version);
        }

        SchemaStatus status = new(version, SchemaStep.Newest, shape.Recorded is not null,
        [
            .. ExpectedSchema.RecordDifferences(_database, shape.Recorded ?? new Dictionary<int, StepRecord>()),
            .. ExpectedSchema.Differences(_database, shape, version),
        ]);
        return (status, shape);
    }

    private async Task<IReadOnlyList<SchemaStep>> MoveAsync(int target, bool isUp, CancellationToken cancel)
    {
        List<SchemaStep> done = [];
        while (await _database.RunAsync(c => StepAsync(c, target, isUp, cancel), cancel).ConfigureAwait(false) is SchemaStep step)
        {
            done.Add(step);
        }

        return done;
    }

    // The state is read under the lock, because another process may have changed it since.
    private async Task<SchemaStep?> StepAsync(DbConnection connection, int target, bool isUp, CancellationToken cancel)
    {
        await using DbTransaction transaction = await _database.BeginLockedAsync(connection, cancel).ConfigureAwait(false);
        (SchemaStatus status, TableShape shape) = await ReadAsync(connection, cancel).ConfigureAwait(false);
        if (isUp ? Unaltered(status).Version >= target : Unaltered(status).Version <= target)
        {
            return null;
        }

        SchemaStep step = isUp ? SchemaStep.Up(_database, status.Version + 1, shape) : SchemaStep.Down(_database, status.Version, shape);
        await StepNeeds.RequireKeysAsync(_database, connection, step, shape, cancel).ConfigureAwait(false);
        foreach (string statement in step.Statements)
        {
            await _database.ExecuteAsync(connection, statement, cancel).ConfigureAwait(false);
        }

        if (step is { IsUp: true, Version: SchemaStep.Newest })
        {
            await StepNeeds.TryEntriesAsync(_database, connection, transaction, cancel).ConfigureAwait(false);
        }

        await RecordAsync(connection, status, step, cancel).ConfigureAwait(false);
        await _database.CommitAsync(transaction, cancel).ConfigureAwait(false);
        return step;
    }

    private async Task RecordAsync(DbConnection connection, SchemaStatus status, SchemaStep step, CancellationToken cancel)
    {
        await _database.ExecuteAsync(connection, CreateRecord, cancel).ConfigureAwait(false);

        // A table without a record gets one for the steps that its shape shows.
        int first = status.IsRecorded ? status.Version + 1 : 1;
        int last = step.IsUp ? step.Version : step.Version - 1;
        for (int version = first; version <= last; version++)
        {
            (string, object?)[] values = [("version", version), ("checksum", SchemaStep.ChecksumOf(_database, version)), ("added", version == step.Version ? step.Added : null)];
            await _database.ExecuteAsync(connection, AddRecord, cancel, values).ConfigureAwait(false);
        }

        if (!step.IsUp)
        {
            await _database.ExecuteAsync(connection, RemoveRecord, cancel, ("version", step.Version)).ConfigureAwait(false);
        }
    }
}
