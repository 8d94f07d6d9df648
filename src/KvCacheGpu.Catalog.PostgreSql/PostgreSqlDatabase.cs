using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Npgsql;

namespace KvCacheGpu.Catalog;

/// <summary>PostgreSQL 11 and later, in UTF-8.</summary>
internal sealed partial class PostgreSqlDatabase : CatalogDatabase
{
    // A number that no other application on the same database is likely to use.
    private const long MigrationLock = 0x4B56_4361_6368_6500;

    // Columns of longer texts have no limit.
    private const int LongestLimited = 255;

    private static readonly NeededIndex[] _indexes =
    [
        new(TableParts.KeyIsUnique, 3, "key"),
        new("idx_session_id", 2, "btree (session_id)"),
        new("idx_cache_key", 3, "btree (key COLLATE \"C\")"),
        new("idx_cache_session", 3, "btree (session_id, key COLLATE \"C\")"),
        new("idx_cache_tenant", 3, "btree (tenant, key COLLATE \"C\")"),
        new("idx_cache_metadata", 3, "gin (metadata jsonb_path_ops)"),
    ];

    // Of steps 1 to 3 as the first release recorded them.
    private static readonly string[] _earlier =
    [
        "d98de1a2855097bca6843e2382b6c6e562542906e206e88959128f5e149545a0",
        "480c597111a33cae309b2955c222618a19685b1ce79103d3fbef62263f4c9664",
        "79c1589b01d6830936cf42b5222a50cfe70215f0ed33994d85c26ef170a4a475",
    ];

    // Class 08: connection; 53300: too many; 57P0x: shutting down or starting; 40001, 40P01: serialization, deadlock; 55P03: no lock in time.
    private static readonly string[] _passing = ["08000", "08001", "08003", "08004", "08006", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03"];

    // A table outside of the search path, if nobody chose the path: neither the address, nor the role, nor the database.
    private const string Elsewhere =
        """
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'cache_entries' AND c.relkind IN ('r', 'p') AND to_regclass('cache_entries') IS NULL AND n.nspname NOT LIKE 'pg\_%'
            AND EXISTS (SELECT FROM pg_settings WHERE name = 'search_path' AND source IN ('default', 'configuration file'))
        ORDER BY n.nspname LIMIT 1
        """;

    // A migration makes its parts in the schema of the table, whichever schema of the path that is.
    private const string PathOfTable =
        """
        SELECT set_config('search_path', concat_ws(', ', quote_ident(n.nspname), nullif(current_setting('search_path'), '')), true)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('cache_entries')
        """;

    public PostgreSqlDatabase(NpgsqlConnectionStringBuilder builder, CatalogOptions options)
        : base(options)
    {
        ConnectionString = builder.ConnectionString;
        string path = builder.Options is { Length: > 0 } given ? $"?options={Uri.EscapeDataString(given)}" : string.Empty;
        Address = $"postgres://{builder.Host}:{builder.Port}/{builder.Database}{path}";
        Lock = [$"SET LOCAL lock_timeout = '{(long)options.Timeout.TotalMilliseconds}ms'", $"SELECT pg_advisory_xact_lock({MigrationLock})", PathOfTable];
    }

    /// <summary>The connection string of the driver, with its secrets.</summary>
    public string ConnectionString { get; }

    public override string Address { get; }

    protected override IReadOnlyList<string> Lock { get; }

    protected override string Columns =>
        "key, session_id, tenant, name, path, checksum, format_version, bytes, layers, tokens, metadata::text, " + Micros("created_at") + ", " + Micros("accessed_at");

    protected override string KeyOrder => "key COLLATE \"C\"";

    protected override string MetadataValue => "@metadata::jsonb";

    protected override string Begin => "BEGIN";

    protected override IReadOnlyList<NeededIndex> NeededIndexes => _indexes;

    protected override IReadOnlyList<string> EarlierChecksums => _earlier;

    protected override string Step(int version)
    {
        string name = $"{version}.sql";
        using Stream stream = typeof(PostgreSqlDatabase).Assembly.GetManifestResourceStream(name) ?? throw new FileNotFoundException(name);
        using StreamReader reader = new(stream);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }

    protected override async Task<DbConnection> OpenAsync(CancellationToken cancel)
    {
        NpgsqlConnection connection = new(ConnectionString);
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

    protected override async Task<DbTransaction> BeginAsync(DbConnection connection, CancellationToken cancel) =>
        await connection.BeginTransactionAsync(cancel).ConfigureAwait(false);

    protected override string Contains(DbCommand command, string metadata, bool isFew)
    {
        Add(command, "metadata", metadata);
        return "metadata @> @metadata::jsonb";
    }

    protected override object Time(DateTimeOffset time) => time;

    protected override DateTimeOffset? ReadTime(object value) => value is long micros ? DateTimeOffset.UnixEpoch.AddMicroseconds(micros) : null;

    protected override async Task<TableParts> PartsAsync(DbConnection connection, CancellationToken cancel)
    {
        // All parts are in the schema of the table, or in the one that a new table would get. A record or an index in another schema belongs to another catalog.
        IReadOnlyList<string?[]> home = await RowsAsync(
            connection,
            """
            SELECT quote_ident(n.nspname), n.oid::text
            FROM pg_namespace n LEFT JOIN pg_class c ON c.oid = to_regclass('cache_entries')
            WHERE n.oid = c.relnamespace OR c.oid IS NULL AND n.nspname = current_schema()
            """,
            cancel).ConfigureAwait(false);
        (string schema, string id) = home is [[string name, string oid], ..]
            ? (name, oid)
            : throw CatalogException.Invalid("database", "a search path that names a schema", "one without");
        Dictionary<string, string> columns = await PairsAsync(
            connection,
            $"""
            SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = {id} AND c.relname IN ('cache_entries', 'kvcache_schema', 'kvcache_aside_2', 'kvcache_aside_3')
                AND a.attnum > 0 AND NOT a.attisdropped
            """,
            cancel).ConfigureAwait(false);
        Dictionary<string, string> indexes = await PairsAsync(
            connection,
            $"""
            SELECT c.relname, CASE WHEN i.indisunique THEN 'unique ' ELSE '' END || regexp_replace(pg_get_indexdef(c.oid), '^.* USING ', '')
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = to_regclass('cache_entries') AND i.indisvalid
            UNION ALL
            SELECT '{TableParts.KeyIsUnique}', 'key' WHERE EXISTS (
                SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = to_regclass('cache_entries') AND a.attname = 'key'
                    AND i.indisvalid AND i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL)
            """,
            cancel).ConfigureAwait(false);
        IReadOnlyList<string?[]> elsewhere = await RowsAsync(connection, Elsewhere, cancel).ConfigureAwait(false);
        return new TableParts(columns, indexes, $"{schema}.kvcache_schema", elsewhere is [[string found, ..], ..] ? found : null);
    }

    protected override string? NeededType(ColumnKind kind, string type) => kind switch
    {
        ColumnKind.Text => type is "text" or "character varying" || Limited().IsMatch(type) ? null : "text or character varying",
        ColumnKind.Bytes => type == "bytea" ? null : "bytea",
        ColumnKind.Time => Timestamp().IsMatch(type) ? null : "a timestamp",
        ColumnKind.Json => type == "jsonb" ? null : "jsonb",
        ColumnKind.Integer => type == "integer" ? null : "integer",
        _ => type == "bigint" ? null : "bigint",
    };

    protected override string? WiderType(string type, int points) =>
        Limited().Match(type) is not { Success: true } match || int.Parse(match.Groups["n"].Value, CultureInfo.InvariantCulture) >= points ? null
        : points <= LongestLimited ? $"VARCHAR({points})" : "TEXT";

    protected override bool IsTransient(Exception error) => error switch
    {
        PostgresException e => _passing.Contains(e.SqlState),
        NpgsqlException { InnerException: IOException or SocketException or TimeoutException } => true,
        NpgsqlException e => e.IsTransient,
        // A server that dies between two messages can cause any of these errors.
        IOException or SocketException or TimeoutException => true,
        InvalidOperationException { InnerException: NpgsqlException } => true,
        _ => false,
    };

    protected override bool IsAnswer(Exception error) => error is PostgresException;

    protected override void ForgetConnections()
    {
        using NpgsqlConnection connection = new(ConnectionString);
        NpgsqlConnection.ClearPool(connection);
    }

    protected override string Explain(Exception error) => error switch
    {
        PostgresException { SqlState: "55P03" } e =>
            $"a lock that another connection holds (a migration that runs, or a transaction left open), SQLSTATE {e.SqlState}: {e.MessageText}",
        PostgresException e =>
            $"SQLSTATE {e.SqlState}: {e.MessageText}{Where("constraint", e.ConstraintName)}{Where("column", e.ColumnName)}{Where("table", e.TableName)}",
        { InnerException: { } inner } when inner.Message != error.Message => $"{error.Message}: {inner.Message}",
        _ => error.Message,
    };

    private static string Where(string what, string? name) => name is null ? string.Empty : $", {what} {name}";

    // Old tables have times with or without a zone; both count from 1970 in UTC. Infinity is no time.
    private static string Micros(string column) => $"CASE WHEN isfinite({column}) THEN (EXTRACT(EPOCH FROM {column}) * 1000000)::bigint END";

    [GeneratedRegex(@"^character varying\((?<n>\d+)\)$")]
    private static partial Regex Limited();

    [GeneratedRegex(@"^timestamp(\(\d\))? with(out)? time zone$")]
    private static partial Regex Timestamp();
}
