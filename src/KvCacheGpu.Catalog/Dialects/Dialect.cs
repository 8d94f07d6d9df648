using System.Data.Common;
using System.Globalization;
using System.Reflection;

namespace KvCacheGpu.Catalog;

/// <summary>What differs between databases: connections, locks, the shape of tables, and a handful of SQL texts. Everything else is written once.</summary>
internal abstract class Dialect(CatalogOptions options)
{
    private const string StatementKey = "kvcache.statement";
    private const int MostStatement = 160;

    /// <summary>The part of step files' names that is this database's.</summary>
    public abstract string Name { get; }

    /// <summary>The address without what is secret.</summary>
    public abstract string Address { get; }

    /// <summary>Called with every statement before it runs; where tests fail.</summary>
    public Action<string>? Before { get; set; }

    /// <summary>The columns of an entry, in the order of <see cref="EntryRow"/>.</summary>
    public abstract string Columns { get; }

    /// <summary>Keys in the order of their UTF-8 bytes.</summary>
    public abstract string KeyOrder { get; }

    /// <summary>The parameter that holds metadata.</summary>
    public abstract string MetadataValue { get; }

    /// <summary>What a migration's transaction begins with, as a dry run prints it.</summary>
    public abstract IReadOnlyList<string> Lock { get; }

    /// <summary>Whether there is a database to look at: an SQLite file may not be made yet, and looking makes none.</summary>
    public virtual bool IsThere => true;

    /// <summary>How long, and how often, to wait.</summary>
    public CatalogOptions Options { get; } = options;

    /// <summary>An open connection, from the pool where one is there.</summary>
    public abstract Task<DbConnection> OpenAsync(CancellationToken cancel);

    /// <summary>A transaction that no other migration runs beside.</summary>
    public abstract Task<DbTransaction> BeginLockedAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>A transaction that writes.</summary>
    public abstract Task<DbTransaction> BeginWriteAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>The condition that metadata contain <paramref name="metadata"/>; <paramref name="isFew"/> where another condition leaves few rows.</summary>
    public abstract string Contains(DbCommand command, string metadata, bool isFew);

    /// <summary>A time as this database takes it.</summary>
    public abstract object Time(DateTimeOffset time);

    /// <summary>A time as it was read.</summary>
    public abstract DateTimeOffset? ReadTime(object value);

    /// <summary>Tables of ours, their columns with types, and their indexes.</summary>
    public abstract Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel);

    /// <summary>Whether an error may pass by itself.</summary>
    public abstract bool IsTransient(Exception error);

    /// <summary>Whether the database itself said that something failed: it is there.</summary>
    public abstract bool IsAnswer(Exception error);

    /// <summary>What an error of the database says, in one line: what it met, its code, and the statement.</summary>
    public string Describe(Exception error)
    {
        string statement = error.Data[StatementKey] is string sql ? $", in: {sql}" : string.Empty;
        return $"{Explain(error)}{statement}".ReplaceLineEndings(" ");
    }

    /// <summary>What an error of the database says, and its code.</summary>
    protected abstract string Explain(Exception error);

    /// <summary>Forgets connections that a dead server left behind.</summary>
    public abstract void ForgetConnections();

    /// <summary>Runs one statement; the number of rows it changed.</summary>
    public async Task<int> ExecuteAsync(DbConnection connection, string sql, CancellationToken cancel, params (string Name, object? Value)[] values)
    {
        await using DbCommand command = Command(connection, sql, values);
        try
        {
            return await command.ExecuteNonQueryAsync(cancel).ConfigureAwait(false);
        }
        catch (DbException e)
        {
            // The text is this assembly's, values are parameters: nothing in it is a secret.
            e.Data[StatementKey] = sql.Length <= MostStatement ? sql : sql[..MostStatement] + " ...";
            throw;
        }
    }

    /// <summary>Commits.</summary>
    public async Task CommitAsync(DbTransaction transaction, CancellationToken cancel)
    {
        Before?.Invoke("COMMIT");
        await transaction.CommitAsync(cancel).ConfigureAwait(false);
        Before?.Invoke("committed");
    }

    /// <summary>A command; SQL is always text of this assembly, values are always parameters.</summary>
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

    /// <summary>The first column of a query's rows with the second.</summary>
    protected async Task<Dictionary<string, string>> PairsAsync(DbConnection connection, string sql, CancellationToken cancel) =>
        (await RowsAsync(connection, sql, cancel).ConfigureAwait(false)).ToDictionary(row => row[0]!, row => row[1] ?? string.Empty);

    /// <summary>The record of steps, in a table of which only its name may be a part of the text.</summary>
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

    /// <summary>Rows of texts.</summary>
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
