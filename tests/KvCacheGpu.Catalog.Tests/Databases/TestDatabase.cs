using System.Data.Common;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>An empty database of its own, dropped at the end.</summary>
internal sealed class TestDatabase : IAsyncDisposable
{
    public const string NoServer = "KVCACHE_TEST_POSTGRES names no PostgreSQL server (.ci/run starts one)";

    private readonly string? _folder;

    private TestDatabase(string address, string? folder) => (Address, _folder) = (address, folder);

    /// <summary>Both kinds of databases.</summary>
    public static CatalogProvider Provider { get; } = CatalogProvider.Join(SqliteCatalog.Provider, PostgreSqlCatalog.Provider);

    /// <summary>The address of the server, or null.</summary>
    public static string? Server { get; } = Variable("KVCACHE_TEST_POSTGRES");

    /// <summary>The command that kills and restarts it, or null.</summary>
    public static string? Restart { get; } = Variable("KVCACHE_TEST_POSTGRES_RESTART");

    public string Address { get; }

    public bool IsSqlite => _folder is not null;

    public static async Task<TestDatabase> CreateAsync(string kind)
    {
        if (kind == "sqlite")
        {
            string folder = Directory.CreateTempSubdirectory("kvcache-catalog-").FullName;
            return new TestDatabase("sqlite:" + Path.Combine(folder, "catalog.db"), folder);
        }

        string name = "kv_" + Guid.NewGuid().ToString("N");
        await OnServerAsync($"CREATE DATABASE {name} TEMPLATE template0");
        return new TestDatabase(Server![..(Server!.LastIndexOf('/') + 1)] + name, null);
    }

    /// <summary>An opening of its own, for its faults and its patience.</summary>
    public CatalogDatabase Open(CatalogOptions? options = null) => Provider.Open(Address, options);

    /// <summary>A catalog with its tables made.</summary>
    public async Task<CacheCatalog> CatalogAsync(CatalogOptions? options = null)
    {
        CacheCatalog catalog = new(Open(options));
        await catalog.Schema.MigrateAsync();
        return catalog;
    }

    /// <summary>Runs statements as another program would.</summary>
    public async Task RunAsync(params string[] statements)
    {
        await using DbConnection connection = await Open().OpenAsync(CancellationToken.None);
        foreach (string statement in statements)
        {
            await Open().ExecuteAsync(connection, statement, CancellationToken.None);
        }
    }

    /// <summary>The rows of a query, each as one text.</summary>
    public async Task<List<string>> RowsAsync(string sql)
    {
        await using DbConnection connection = await Open().OpenAsync(CancellationToken.None);
        await using DbCommand command = Open().Command(connection, sql);
        return await ReadAsync(command);
    }

    public static async Task<List<string>> ReadAsync(DbCommand command)
    {
        await using DbDataReader reader = await command.ExecuteReaderAsync();
        List<string> rows = [];
        while (await reader.ReadAsync())
        {
            rows.Add(string.Join('|', Enumerable.Range(0, reader.FieldCount).Select(i =>
                reader.IsDBNull(i) ? "-" : reader.GetValue(i) is byte[] bytes ? Convert.ToHexString(bytes) : Convert.ToString(reader.GetValue(i), null))));
        }

        return rows;
    }

    public async ValueTask DisposeAsync()
    {
        Open().ForgetConnections();
        if (_folder is not null)
        {
            Directory.Delete(_folder, recursive: true);
            return;
        }

        await OnServerAsync($"DROP DATABASE {Address[(Address.LastIndexOf('/') + 1)..]} WITH (FORCE)");
    }

    private static async Task OnServerAsync(string sql)
    {
        await Provider.Open(Server!, null).RunAsync(
            async c =>
            {
                await using DbCommand command = c.CreateCommand();
#pragma warning disable CA2100 // A name of hexadecimal digits.
                command.CommandText = sql;
#pragma warning restore CA2100
                return await command.ExecuteNonQueryAsync();
            },
            CancellationToken.None);
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
