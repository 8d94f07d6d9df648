using System.Data.Common;
using System.Net.Sockets;
using Npgsql;

namespace KvCacheGpu.Catalog;

/// <summary>PostgreSQL 11 and later, in UTF-8.</summary>
internal sealed class PostgresDialect : Dialect
{
    // Any number that no other application on the same database uses.
    private const long MigrationLock = 0x4B56_4361_6368_6500;

    // Class 08: connection; 53300: too many; 57P0x: shutting down or starting; 40001, 40P01: serialization, deadlock; 55P03: lock not had in time.
    private static readonly string[] _passing = ["08000", "08001", "08003", "08004", "08006", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03"];

    private readonly string _connection;

    public PostgresDialect(NpgsqlConnectionStringBuilder builder, CatalogOptions options)
        : base(options)
    {
        _connection = builder.ConnectionString;
        Address = $"postgres://{builder.Host}:{builder.Port}/{builder.Database}";
        Lock = [$"SET LOCAL lock_timeout = '{(long)options.Timeout.TotalMilliseconds}ms'", $"SELECT pg_advisory_xact_lock({MigrationLock})"];
    }

    public override string Name => "postgres";

    public override string Address { get; }

    public override IReadOnlyList<string> Lock { get; }

    public override string Columns =>
        "key, session_id, tenant, name, path, checksum, format_version, bytes, layers, tokens, metadata::text, " + Micros("created_at") + ", " + Micros("accessed_at");

    public override string KeyOrder => "key COLLATE \"C\"";

    public override string MetadataValue => "@metadata::jsonb";

    public override async Task<DbConnection> OpenAsync(CancellationToken cancel)
    {
        NpgsqlConnection connection = new(_connection);
        try
        {
            await connection.OpenAsync(cancel).ConfigureAwait(false);
            return connection.PostgresParameters.TryGetValue("server_encoding", out string? encoding) && encoding != "UTF8"
                ? throw CatalogException.Invalid("database", "a server encoding of UTF8", encoding)
                : connection;
        }
        catch
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public override async Task<DbTransaction> BeginLockedAsync(DbConnection connection, CancellationToken cancel)
    {
        DbTransaction transaction = await BeginWriteAsync(connection, cancel).ConfigureAwait(false);
        foreach (string statement in Lock)
        {
            await ExecuteAsync(connection, statement, cancel).ConfigureAwait(false);
        }

        return transaction;
    }

    public override async Task<DbTransaction> BeginWriteAsync(DbConnection connection, CancellationToken cancel)
    {
        Before?.Invoke("BEGIN");
        return await connection.BeginTransactionAsync(cancel).ConfigureAwait(false);
    }

    public override string Contains(DbCommand command, string metadata, bool isFew)
    {
        Add(command, "metadata", metadata);
        return "metadata @> @metadata::jsonb";
    }

    public override object Time(DateTimeOffset time) => time;

    public override DateTimeOffset? ReadTime(object value) => value is long micros ? DateTimeOffset.UnixEpoch.AddMicroseconds(micros) : null;

    public override async Task<TableShape> ShapeAsync(DbConnection connection, CancellationToken cancel)
    {
        Dictionary<string, string> columns = await PairsAsync(
            connection,
            """
            SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.oid IN (to_regclass('cache_entries'), to_regclass('kvcache_schema')) AND a.attnum > 0 AND NOT a.attisdropped
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string> indexes = await PairsAsync(
            connection,
            """
            SELECT CASE WHEN i.indisprimary THEN 'primary key' ELSE c.relname END, regexp_replace(pg_get_indexdef(c.oid), '^.* USING ', '')
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('cache_entries') AND i.indisvalid
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string>? steps = columns.ContainsKey("kvcache_schema.version")
            ? await PairsAsync(connection, "SELECT version::text, checksum FROM kvcache_schema", cancel).ConfigureAwait(false)
            : null;
        return new TableShape(columns, indexes, steps?.ToDictionary(s => int.Parse(s.Key), s => s.Value));
    }

    public override bool IsTransient(Exception error) => error switch
    {
        PostgresException e => _passing.Contains(e.SqlState),
        NpgsqlException { InnerException: IOException or SocketException or TimeoutException } => true,
        NpgsqlException e => e.IsTransient,
        // A server that dies between two messages leaves streams and transactions in any of these.
        IOException or SocketException or TimeoutException => true,
        InvalidOperationException { InnerException: NpgsqlException } => true,
        _ => false,
    };

    public override void ForgetConnections()
    {
        using NpgsqlConnection connection = new(_connection);
        NpgsqlConnection.ClearPool(connection);
    }

    // Old tables have times with or without a zone; both count from 1970 in UTC. Infinity is no time.
    private static string Micros(string column) => $"CASE WHEN isfinite({column}) THEN (EXTRACT(EPOCH FROM {column}) * 1000000)::bigint END";
}
