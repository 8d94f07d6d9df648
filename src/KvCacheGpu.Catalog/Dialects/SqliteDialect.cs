using System.Data.Common;
using System.Globalization;
using Microsoft.Data.Sqlite;

namespace KvCacheGpu.Catalog;

/// <summary>SQLite in a file: the default, without a server. Its driver works synchronously behind the asynchronous calls.</summary>
internal sealed class SqliteDialect : Dialect
{
    private const string TimeForm = "yyyy-MM-dd HH:mm:ss.ffffff";

    private const int Busy = 5;
    private const int Locked = 6;
    private const int CannotOpen = 14;
    private const int NoDatabase = 26;

    private readonly string _connection;
    private readonly string _path;

    /// <summary>Makes the dialect of a database in a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="mode">The open mode: says if the file may be written, and made if it does not exist.</param>
    /// <param name="options">The number of retries and the times to wait.</param>
    public SqliteDialect(string path, SqliteOpenMode mode, CatalogOptions options)
        : base(options)
    {
        // The current folder may be another one when a migration is rolled back later.
        _path = Path.GetFullPath(path);
        Address = "sqlite:" + _path;
        _connection = new SqliteConnectionStringBuilder
        {
            DataSource = _path,
            Mode = mode,
            DefaultTimeout = (int)Math.Ceiling(options.Timeout.TotalSeconds),
        }.ConnectionString;
    }

    public override string Name => "sqlite";

    public override string Address { get; }

    public override IReadOnlyList<string> Lock => [];

    public override string Columns =>
        "key, session_id, tenant, name, path, checksum, format_version, bytes, layers, tokens, metadata, created_at, accessed_at";

    public override string KeyOrder => "key";

    public override string MetadataValue => "@metadata";

    // If the folder does not exist either, opening the file reports it.
    public override bool IsThere => Path.Exists(_path) || !Directory.Exists(Path.GetDirectoryName(_path));

    public override async Task<DbConnection> OpenAsync(CancellationToken cancel)
    {
        // SQLite would take a named pipe for an empty database.
        if (PathKind.FlawOf(_path) is string other)
        {
            throw CatalogException.Invalid("database", "sqlite:PATH, a file", $"'{_path}', {other}");
        }

        SqliteConnection connection = new(_connection);
        try
        {
            await connection.OpenAsync(cancel).ConfigureAwait(false);
            connection.CreateFunction<string?, string, bool>("kv_contains", Json.Contains, isDeterministic: true);
            return connection;
        }
        catch
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public override Task<DbTransaction> BeginLockedAsync(DbConnection connection, CancellationToken cancel) => BeginWriteAsync(connection, cancel);

    public override Task<DbTransaction> BeginWriteAsync(DbConnection connection, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        Before?.Invoke("BEGIN IMMEDIATE");
        return Task.FromResult<DbTransaction>(((SqliteConnection)connection).BeginTransaction(deferred: false));
    }

    public override string Contains(DbCommand command, string metadata, bool isFew)
    {
        Add(command, "metadata", metadata);
        if (isFew || Json.FirstScalar(metadata) is not (string name, object value))
        {
            return "kv_contains(metadata, @metadata)";
        }

        // The index narrows the rows by one name and value; the function then decides.
        Add(command, "name", name);
        Add(command, "scalar", value);
        return "key IN (SELECT m.key FROM cache_metadata m WHERE m.name = @name AND m.value = @scalar) AND kv_contains(metadata, @metadata)";
    }

    public override object Time(DateTimeOffset time) => time.UtcDateTime.ToString(TimeForm, CultureInfo.InvariantCulture);

    public override DateTimeOffset? ReadTime(object value) => value switch
    {
        // Old tables hold times as text, or as seconds.
        string text => DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out DateTimeOffset time) ? time : null,
        long or double when Convert.ToDouble(value, CultureInfo.InvariantCulture) is >= 0 and < 253_000_000_000 and double seconds => DateTimeOffset.UnixEpoch.AddSeconds(seconds),
        _ => null,
    };

    public override async Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel)
    {
        // SQLite ignores the case of names.
        Dictionary<string, string> columns = await PairsAsync(
            connection,
            """
            SELECT lower(m.name || '.' || c.name), upper(c.type) FROM sqlite_master m, pragma_table_info(m.name) c
            WHERE m.type = 'table' AND lower(m.name) IN ('cache_entries', 'cache_metadata', 'kvcache_schema', 'kvcache_aside_2', 'kvcache_aside_3')
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string> indexes = await PairsAsync(
            connection,
            $"""
            WITH i AS (
                SELECT t.name AS of_table, lower(l.name) AS name, l."unique" AS is_unique, l.partial, l.origin,
                    (SELECT group_concat(lower(coalesce(name, 'an expression')), ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) AS columns
                FROM (SELECT 'cache_entries' AS name UNION ALL SELECT 'cache_metadata') t, pragma_index_list(t.name) l)
            SELECT name, CASE is_unique WHEN 1 THEN 'unique ' ELSE '' END || columns || CASE partial WHEN 1 THEN ' in part' ELSE '' END FROM i
            UNION ALL
            SELECT '{TableShape.KeyIsUnique}', 'key' WHERE EXISTS (SELECT 1 FROM i WHERE of_table = 'cache_entries' AND columns = 'key' AND is_unique AND NOT partial)
            UNION ALL
            SELECT lower(name), 'trigger' FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = 'cache_entries'
            """,
            cancel).ConfigureAwait(false);
        return new TableShape(columns, indexes, await RecordedAsync(connection, "kvcache_schema", columns, cancel).ConfigureAwait(false));
    }

    public override bool IsTransient(Exception error) => error is SqliteException { SqliteErrorCode: Busy or Locked };

    public override bool IsAnswer(Exception error) => error is SqliteException { SqliteErrorCode: not (CannotOpen or NoDatabase) };

    public override void ForgetConnections()
    {
        using SqliteConnection connection = new(_connection);
        SqliteConnection.ClearPool(connection);
    }

    protected override string Explain(Exception error) => error switch
    {
        SqliteException { SqliteErrorCode: Busy or Locked } e => $"a lock that another connection holds (a migration that runs, or a transaction left open), {e.Message}",
        SqliteException e when e.SqliteExtendedErrorCode != e.SqliteErrorCode => $"{e.Message} ({e.SqliteExtendedErrorCode})",
        _ => error.Message,
    };
}
