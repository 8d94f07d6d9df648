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

    private readonly string _connection;

    public SqliteDialect(string path, CatalogOptions options)
        : base(options)
    {
        Address = "sqlite:" + path;
        _connection = new SqliteConnectionStringBuilder
        {
            DataSource = path,
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

    public override async Task<DbConnection> OpenAsync(CancellationToken cancel)
    {
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

        // The index narrows by one name and value; the function decides.
        Add(command, "name", name);
        Add(command, "scalar", value);
        return "key IN (SELECT m.key FROM cache_metadata m WHERE m.name = @name AND m.value = @scalar) AND kv_contains(metadata, @metadata)";
    }

    public override object Time(DateTimeOffset time) => time.UtcDateTime.ToString(TimeForm, CultureInfo.InvariantCulture);

    public override DateTimeOffset? ReadTime(object value) => value switch
    {
        // Old tables hold what their program wrote: text, or seconds.
        string text => DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out DateTimeOffset time) ? time : null,
        long or double when Convert.ToDouble(value, CultureInfo.InvariantCulture) is >= 0 and < 253_000_000_000 and double seconds => DateTimeOffset.UnixEpoch.AddSeconds(seconds),
        _ => null,
    };

    public override async Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel)
    {
        Dictionary<string, string> columns = await PairsAsync(
            connection,
            """
            SELECT m.name || '.' || c.name, upper(c.type) FROM sqlite_master m, pragma_table_info(m.name) c
            WHERE m.type = 'table' AND m.name IN ('cache_entries', 'cache_metadata', 'kvcache_schema')
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string> indexes = await PairsAsync(
            connection,
            """
            SELECT CASE l.origin WHEN 'pk' THEN 'primary key' ELSE l.name END,
                (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) || CASE l.partial WHEN 1 THEN ' in part' ELSE '' END
            FROM pragma_index_list('cache_entries') l
            UNION ALL
            SELECT name, 'trigger' FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'cache_entries'
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string>? steps = columns.ContainsKey("kvcache_schema.version")
            ? await PairsAsync(connection, "SELECT CAST(version AS TEXT), checksum FROM kvcache_schema", cancel).ConfigureAwait(false)
            : null;
        return new TableShape(columns, indexes, steps?.ToDictionary(s => int.Parse(s.Key), s => s.Value));
    }

    public override bool IsTransient(Exception error) => error is SqliteException { SqliteErrorCode: Busy or Locked };

    public override void ForgetConnections()
    {
        using SqliteConnection connection = new(_connection);
        SqliteConnection.ClearPool(connection);
    }
}
