using KvCacheGpu.Catalog;

namespace KvCacheGpu.Cli;

/// <summary>Catalogs on every database that the tool brings.</summary>
internal static class Catalogs
{
    private static readonly CatalogProvider _provider = CatalogProvider.Join(SqliteCatalog.Provider, PostgreSqlCatalog.Provider);

    /// <summary>The catalog at an address.</summary>
    /// <exception cref="CatalogException">E003: the address cannot be read.</exception>
    public static CacheCatalog Open(string address) => new(address, _provider);

    /// <summary>The schema at an address.</summary>
    /// <exception cref="CatalogException">E003: the address cannot be read.</exception>
    public static CatalogSchema Schema(string address, CatalogOptions? options = null) => new(address, _provider, options);
}
