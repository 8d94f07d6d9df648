using System.Data.Common;
using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.Data.Sqlite;

namespace KvCacheGpu.Catalog;

/// <summary>SQLite in a file: the default, without a server. Its driver works synchronously behind the asynchronous calls.</summary>
internal sealed partial class SqliteDatabase : CatalogDatabase
{
    private const string TimeForm = "yyyy-MM-dd HH:mm:ss.ffffff";

    private const int Busy = 5;
    private const int Locked = 6;
    private const int CannotOpen = 14;
    private const int NoDatabase = 26;

    private static readonly NeededIndex[] _indexes =
    [
        new(TableParts.KeyIsUnique, 3, "key"),
        new("idx_session_id", 2, "session_id"),
        new("idx_cache_session", 3, "session_id, key"),
        new("idx_cache_tenant", 3, "tenant, key"),
        new("cache_metadata_insert", 3, "trigger"),
        new("cache_metadata_update", 3, "trigger"),
        new("cache_metadata_delete", 3, "trigger"),
        new("cache_metadata", 3, "table"),
    ];

    // Of steps 1 to 3 as the first release recorded them.
    private static readonly string[] _earlier =
    [
        "224b8a91d7bd5e1ad252aa75e05ea360756b339eaac18dd17c631233351bb677",
        "fd7712db1f00e8aa0ac7bb4af4b80822124fb1eeb876691abb76cf0d7a277144",
        "32b65c6a5c42bbeb387996e09b2ca9667aef8b258a6a51c46a75a43d00637a73",
    ];

    private readonly string _connection;
    private readonly string _path;

    /// <summary>Takes an address that was read; opens nothing.</summary>
    /// <param name="path">The file.</param>
    /// <param name="mode">The open mode: says if the file may be written, and made if it does not exist.</param>
    /// <param name="options">The number of retries and the times to wait.</param>
    public SqliteDatabase(string path, SqliteOpenMode mode, CatalogOptions options)
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

    public override string Address { get; }

    protected override string Columns =>
        "key, session_id, tenant, name, path, checksum, format_version, bytes, layers, tokens, metadata, created_at, accessed_at";

    protected override string KeyOrder => "key";

    protected override string MetadataValue => "@metadata";

    protected override string Begin => "BEGIN IMMEDIATE";

    protected override IReadOnlyList<NeededIndex> NeededIndexes => _indexes;

    protected override IReadOnlyList<string> EarlierChecksums => _earlier;

    // If the folder does not exist either, opening the file reports it.
    protected override bool IsThere => Path.Exists(_path) || !Directory.Exists(Path.GetDirectoryName(_path));

    protected override string Step(int version)
    {
        string name = $"{version}.sql";
        using Stream stream = typeof(SqliteDatabase).Assembly.GetManifestResourceStream(name) ?? throw new FileNotFoundException(name);
        using StreamReader reader = new(stream);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }

    protected override async Task<DbConnection> OpenAsync(CancellationToken cancel)
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
            connection.CreateFunction<string?, string, bool>("kv_contains", JsonPart.IsIn, isDeterministic: true);
            return connection;
        }
        catch
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    protected override Task<DbTransaction> BeginAsync(DbConnection connection, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        return Task.FromResult<DbTransaction>(((SqliteConnection)connection).BeginTransaction(deferred: false));
    }

    protected override string Contains(DbCommand command, string metadata, bool isFew)
    {
        Add(command, "metadata", metadata);
        if (isFew || JsonPart.FirstScalar(metadata) is not (string name, object value))
        {
            return "kv_contains(metadata, @metadata)";
        }

        // The index narrows the rows by one name and value; the function then decides.
        Add(command, "name", name);
        Add(command, "scalar", value);
        return "key IN (SELECT m.key FROM cache_metadata m WHERE m.name = @name AND m.value = @scalar) AND kv_contains(metadata, @metadata)";
    }

    protected override object Time(DateTimeOffset time) => time.UtcDateTime.ToString(TimeForm, CultureInfo.InvariantCulture);

    protected override DateTimeOffset? ReadTime(object value) => value switch
    {
        // Old tables hold times as text, or as seconds.
        string text => DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out DateTimeOffset time) ? time : null,
        long or double when Convert.ToDouble(value, CultureInfo.InvariantCulture) is >= 0 and < 253_000_000_000 and double seconds => DateTimeOffset.UnixEpoch.AddSeconds(seconds),
        _ => null,
    };

    protected override async Task<TableParts> PartsAsync(DbConnection connection, CancellationToken cancel)
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
            SELECT '{TableParts.KeyIsUnique}', 'key' WHERE EXISTS (SELECT 1 FROM i WHERE of_table = 'cache_entries' AND columns = 'key' AND is_unique AND NOT partial)
            UNION ALL
            SELECT lower(name), type FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = 'cache_entries' OR type = 'table' AND lower(name) = 'cache_metadata'
            """,
            cancel).ConfigureAwait(false);
        return new TableParts(columns, indexes);
    }

    protected override string? NeededType(ColumnKind kind, string type) =>
        kind != ColumnKind.Text || (KeepsTexts().IsMatch(type) && !type.Contains("INT", StringComparison.Ordinal)) ? null : "of type TEXT";

    protected override bool IsTransient(Exception error) => error is SqliteException { SqliteErrorCode: Busy or Locked };

    protected override bool IsAnswer(Exception error) => error is SqliteException { SqliteErrorCode: not (CannotOpen or NoDatabase) };

    protected override void ForgetConnections()
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

    // By SQLite's rules of affinity, a column whose type has one of these syllables keeps texts as they are. Columns of other kinds keep any value.
    [GeneratedRegex("CHAR|CLOB|TEXT|BLOB")]
    private static partial Regex KeepsTexts();
}
