using System.Data.Common;
using System.Globalization;

namespace KvCacheGpu.Catalog;

/// <summary>
/// The differences between databases: connections, locks, the steps of the schema, the shape of tables, and a few SQL texts. Everything else is written
/// once. A provider's package derives from it; a program has a <see cref="CacheCatalog"/> and never calls it.
/// </summary>
/// <remarks>Thread safety: it never changes, and many threads may use it.</remarks>
public abstract class CatalogDatabase
{
    private const string StatementKey = "kvcache.statement";
    private const int MostStatement = 160;

    /// <summary>Takes the options of the catalog.</summary>
    /// <param name="options">The number of retries and the times to wait.</param>
    protected CatalogDatabase(CatalogOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        Options = options;
    }

    /// <summary>The address without its secrets.</summary>
    public abstract string Address { get; }

    /// <summary>The columns of an entry: key, session_id, tenant, name, path, checksum, format_version, bytes, layers, tokens, metadata, created_at, accessed_at.</summary>
    protected internal abstract string Columns { get; }

    /// <summary>The SQL expression that orders keys by their UTF-8 bytes.</summary>
    protected internal abstract string KeyOrder { get; }

    /// <summary>The SQL expression of the parameter that holds metadata.</summary>
    protected internal abstract string MetadataValue { get; }

    /// <summary>The statement that begins a transaction that writes, as a dry run prints it.</summary>
    protected internal abstract string Begin { get; }

    /// <summary>The first statements of a migration's transaction, after which no other migration runs beside it.</summary>
    protected internal virtual IReadOnlyList<string> Lock => [];

    /// <summary>True if there is a database to look at: an SQLite file may not exist yet, and looking does not make one.</summary>
    protected internal virtual bool IsThere => true;

    /// <summary>The indexes that each version needs.</summary>
    protected internal abstract IReadOnlyList<NeededIndex> NeededIndexes { get; }

    /// <summary>Checksums of steps, from the first, that an earlier release recorded for the same schema as today's steps make.</summary>
    protected internal virtual IReadOnlyList<string> EarlierChecksums => [];

    /// <summary>Is called with every statement before it runs, so that tests can make it fail.</summary>
    internal Action<string>? Before { get; set; }

    /// <summary>The number of retries and the times to wait.</summary>
    internal CatalogOptions Options { get; }

    /// <summary>The SQL of the step that leads up to a version: statements in paragraphs.</summary>
    protected internal abstract string Step(int version);

    /// <summary>Opens a connection, or takes one from the pool.</summary>
    protected internal abstract Task<DbConnection> OpenAsync(CancellationToken cancel);

    /// <summary>Does what <see cref="Begin"/> says.</summary>
    protected internal abstract Task<DbTransaction> BeginAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>Forgets the connections to a server that has died.</summary>
    protected internal abstract void ForgetConnections();

    /// <summary>The condition that metadata contain <paramref name="metadata"/>; <paramref name="isFew"/> is true if another condition leaves few rows.</summary>
    protected internal abstract string Contains(DbCommand command, string metadata, bool isFew);

    /// <summary>A time in the form that this database takes.</summary>
    protected internal abstract object Time(DateTimeOffset time);

    /// <summary>A time from the form in which it was read; null if it is none.</summary>
    protected internal abstract DateTimeOffset? ReadTime(object value);

    /// <summary>Reads the catalog's tables, their columns with types, and their indexes.</summary>
    protected internal abstract Task<TableParts> PartsAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>The type that a column should have, in words, if its type cannot hold values of a kind; null if it can.</summary>
    /// <param name="kind">The kind of values.</param>
    /// <param name="type">The column's type as <see cref="TableParts.Columns"/> has it, not empty.</param>
    protected internal abstract string? NeededType(ColumnKind kind, string type);

    /// <summary>The type to which a column of texts is widened so that it holds texts of a number of code points; null if it holds them.</summary>
    /// <param name="type">The column's type as <see cref="TableParts.Columns"/> has it.</param>
    /// <param name="points">The number of code points.</param>
    protected internal virtual string? WiderType(string type, int points) => null;

    /// <summary>True if an error may be temporary.</summary>
    protected internal abstract bool IsTransient(Exception error);

    /// <summary>True if the database itself reported the error, so that it is there.</summary>
    protected internal abstract bool IsAnswer(Exception error);

    /// <summary>The message of an error of the database, and its code.</summary>
    protected abstract string Explain(Exception error);

    /// <summary>Adds a parameter.</summary>
    /// <param name="command">The command.</param>
    /// <param name="name">The parameter's name.</param>
    /// <param name="value">Its value; null for the database's null.</param>
    protected internal static void Add(DbCommand command, string name, object? value)
    {
        ArgumentNullException.ThrowIfNull(command);
        DbParameter parameter = command.CreateParameter();
        parameter.ParameterName = name;
        parameter.Value = value ?? DBNull.Value;
        command.Parameters.Add(parameter);
    }

    /// <summary>Reads the rows of a query as pairs of the first column and the second.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="sql">The query: text of the provider, never of a caller.</param>
    /// <param name="cancel">Cancels the call.</param>
    protected async Task<Dictionary<string, string>> PairsAsync(DbConnection connection, string sql, CancellationToken cancel) =>
        (await RowsAsync(connection, sql, cancel).ConfigureAwait(false)).ToDictionary(row => row[0]!, row => row[1] ?? string.Empty);

    /// <summary>Reads the rows of a query as texts.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="sql">The query: text of the provider, never of a caller.</param>
    /// <param name="cancel">Cancels the call.</param>
    protected async Task<IReadOnlyList<string?[]>> RowsAsync(DbConnection connection, string sql, CancellationToken cancel)
    {
        List<string?[]> rows = [];
        await using DbCommand command = Command(connection, sql);
        await using DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false);
        while (await reader.ReadAsync(cancel).ConfigureAwait(false))
        {
            rows.Add([.. Enumerable.Range(0, reader.FieldCount).Select(i => reader.IsDBNull(i) ? null : reader.GetString(i))]);
        }

        return rows;
    }

    /// <summary>The shape of the catalog's tables, with the steps that are recorded as done.</summary>
    internal async Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel)
    {
        TableParts parts = await PartsAsync(connection, cancel).ConfigureAwait(false);
        TableShape shape = new(parts.Columns, parts.Indexes, null, parts.Elsewhere);
        return shape.HasTable("kvcache_schema")
            ? shape with { Recorded = await RecordedAsync(connection, parts.Record, shape.RecordsParts, cancel).ConfigureAwait(false) }
            : shape;
    }

    /// <summary>Describes an error of the database in one line: the message, its code, and the statement.</summary>
    internal string Describe(Exception error)
    {
        string statement = error.Data[StatementKey] is string sql ? $", in: {sql}" : string.Empty;
        return $"{Explain(error)}{statement}".ReplaceLineEndings(" ");
    }

    /// <summary>Begins a transaction that writes.</summary>
    internal Task<DbTransaction> BeginWriteAsync(DbConnection connection, CancellationToken cancel)
    {
        Before?.Invoke(Begin);
        return BeginAsync(connection, cancel);
    }

    /// <summary>Begins a transaction beside which no other migration runs.</summary>
    internal async Task<DbTransaction> BeginLockedAsync(DbConnection connection, CancellationToken cancel)
    {
        DbTransaction transaction = await BeginWriteAsync(connection, cancel).ConfigureAwait(false);
        foreach (string statement in Lock)
        {
            await ExecuteAsync(connection, statement, cancel).ConfigureAwait(false);
        }

        return transaction;
    }

    /// <summary>Runs one statement, and returns the number of rows that it changed.</summary>
    internal async Task<int> ExecuteAsync(DbConnection connection, string sql, CancellationToken cancel, params (string Name, object? Value)[] values)
    {
        await using DbCommand command = Command(connection, sql, values);
        try
        {
            return await command.ExecuteNonQueryAsync(cancel).ConfigureAwait(false);
        }
        catch (DbException e)
        {
            // The text is that of the catalog's assemblies and values are parameters, so there is no secret in it.
            e.Data[StatementKey] = sql.Length <= MostStatement ? sql : sql[..MostStatement] + " ...";
            throw;
        }
    }

    /// <summary>Commits a transaction.</summary>
    internal async Task CommitAsync(DbTransaction transaction, CancellationToken cancel)
    {
        Before?.Invoke("COMMIT");
        await transaction.CommitAsync(cancel).ConfigureAwait(false);
        Before?.Invoke("committed");
    }

    /// <summary>Makes a command. SQL is always text of the catalog's assemblies, and values are always parameters.</summary>
    internal DbCommand Command(DbConnection connection, string sql, params (string Name, object? Value)[] values)
    {
        Before?.Invoke(sql);
        DbCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // No caller's text is in it.
        command.CommandText = sql;
#pragma warning restore CA2100
        foreach ((string name, object? value) in values)
        {
            Add(command, name, value);
        }

        return command;
    }

    // Of the table only the name becomes a part of the SQL.
    private async Task<Dictionary<int, StepRecord>> RecordedAsync(DbConnection connection, string table, bool recordsParts, CancellationToken cancel) =>
        (await RowsAsync(connection, $"SELECT CAST(version AS TEXT), checksum, {(recordsParts ? "added" : "NULL")} FROM {table}", cancel).ConfigureAwait(false))
            .ToDictionary(row => int.Parse(row[0]!, CultureInfo.InvariantCulture), row => new StepRecord(row[1]!, row[2]));
}
