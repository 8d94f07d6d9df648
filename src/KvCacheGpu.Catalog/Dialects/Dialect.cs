using System.Data.Common;
using System.Globalization;
using System.Reflection;

namespace KvCacheGpu.Catalog;

/// <summary>The differences between databases: connections, locks, the shape of tables, and a few SQL texts. Everything else is written once.</summary>
internal abstract class Dialect(CatalogOptions options)
{
    private const string StatementKey = "kvcache.statement";
    private const int MostStatement = 160;

    /// <summary>The database's part of the names of step files.</summary>
    public abstract string Name { get; }

    /// <summary>The address without its secrets.</summary>
    public abstract string Address { get; }

    /// <summary>Is called with every statement before it runs, so that tests can make it fail.</summary>
    public Action<string>? Before { get; set; }

    /// <summary>The columns of an entry, in the order of <see cref="EntryRow"/>.</summary>
    public abstract string Columns { get; }

    /// <summary>The SQL expression that orders keys by their UTF-8 bytes.</summary>
    public abstract string KeyOrder { get; }

    /// <summary>The SQL expression of the parameter that holds metadata.</summary>
    public abstract string MetadataValue { get; }

    /// <summary>The first statements of a migration's transaction, as a dry run prints them.</summary>
    public abstract IReadOnlyList<string> Lock { get; }

    /// <summary>True if there is a database to look at: an SQLite file may not exist yet, and looking does not make one.</summary>
    public virtual bool IsThere => true;

    /// <summary>The number of retries and the times to wait.</summary>
    public CatalogOptions Options { get; } = options;

    /// <summary>Opens a connection, or takes one from the pool.</summary>
    public abstract Task<DbConnection> OpenAsync(CancellationToken cancel);

    /// <summary>Begins a transaction beside which no other migration runs.</summary>
    public abstract Task<DbTransaction> BeginLockedAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>Begins a transaction that writes.</summary>
    public abstract Task<DbTransaction> BeginWriteAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>The condition that metadata contain <paramref name="metadata"/>; <paramref name="isFew"/> is true if another condition leaves few rows.</summary>
    public abstract string Contains(DbCommand command, string metadata, bool isFew);

    /// <summary>A time in the form that this database takes.</summary>
    public abstract object Time(DateTimeOffset time);

    /// <summary>A time from the form in which it was read.</summary>
    public abstract DateTimeOffset? ReadTime(object value);

    /// <summary>Reads the catalog's tables, their columns with types, and their indexes.</summary>
    public abstract Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>True if an error may be temporary.</summary>
    public abstract bool IsTransient(Exception error);

    /// <summary>True if the database itself reported the error, so that it is there.</summary>
    public abstract bool IsAnswer(Exception error);

    /// <summary>Describes an error of the database in one line: the message, its code, and the statement.</summary>
    public string Describe(Exception error)
    {
        string statement = error.Data[StatementKey] is string sql ? $", in: {sql}" : string.Empty;
        return $"{Explain(error)}{statement}".ReplaceLineEndings(" ");
    }

    /// <summary>The message of an error of the database, and its code.</summary>
    protected abstract string Explain(Exception error);

    /// <summary>Forgets the connections to a server that has died.</summary>
    public abstract void ForgetConnections();

    /// <summary>Runs one statement, and returns the number of rows that it changed.</summary>
    public async Task<int> ExecuteAsync(DbConnection connection, string sql, CancellationToken cancel, params (string Name, object? Value)[] values)
    {
        await using DbCommand command = Command(connection, sql, values);
        try
        {
            return await command.ExecuteNonQueryAsync(cancel).ConfigureAwait(false);
        }
        catch (DbException e)
        {
            // The text is this assembly's and values are parameters, so there is no secret in it.
            e.Data[StatementKey] = sql.Length <= MostStatement ? sql : sql[..MostStatement] + " ...";
            throw;
        }
    }

    /// <summary>Commits a transaction.</summary>
    public async Task CommitAsync(DbTransaction transaction, CancellationToken cancel)
    {
        Before?.Invoke("COMMIT");
        await transaction.CommitAsync(cancel).ConfigureAwait(false);
        Before?.Invoke("committed");
    }

    /// <summary>Makes a command. SQL is always text of this assembly, and values are always parameters.</summary>
    public DbCommand Command(DbConnection connection, string sql, params (string Name, object? Value)[] values)
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

    /// <summary>Adds a parameter.</summary>
    public static void Add(DbCommand command, string name, object? value)
    {
        DbParameter parameter = command.CreateParameter();
        parameter.ParameterName = name;
        parameter.Value = value ?? DBNull.Value;
        command.Parameters.Add(parameter);
    }

    /// <summary>The text of an embedded file of this dialect.</summary>
    public string Resource(string step)
    {
        string name = $"{step}.{Name}.sql";
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name) ?? throw new FileNotFoundException(name);
        using StreamReader reader = new(stream);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }

    /// <summary>Reads the rows of a query as pairs of the first column and the second.</summary>
    protected async Task<Dictionary<string, string>> PairsAsync(DbConnection connection, string sql, CancellationToken cancel) =>
        (await RowsAsync(connection, sql, cancel).ConfigureAwait(false)).ToDictionary(row => row[0]!, row => row[1] ?? string.Empty);

    /// <summary>Reads the record of steps from a table, of which only the name becomes a part of the SQL.</summary>
    protected async Task<Dictionary<int, StepRecord>?> RecordedAsync(DbConnection connection, string table, IReadOnlyDictionary<string, string> columns, CancellationToken cancel)
    {
        if (!columns.ContainsKey("kvcache_schema.version"))
        {
            return null;
        }

        string added = columns.ContainsKey("kvcache_schema.added") ? "added" : "NULL";
        return (await RowsAsync(connection, $"SELECT CAST(version AS TEXT), checksum, {added} FROM {table}", cancel).ConfigureAwait(false))
            .ToDictionary(row => int.Parse(row[0]!, CultureInfo.InvariantCulture), row => new StepRecord(row[1]!, row[2]));
    }

    /// <summary>Reads the rows of a query as texts.</summary>
    protected async Task<List<string?[]>> RowsAsync(DbConnection connection, string sql, CancellationToken cancel)
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
}
