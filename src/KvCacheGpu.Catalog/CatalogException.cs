namespace KvCacheGpu.Catalog;

/// <summary>What the catalog refuses or fails at, with the codes of the cache itself.</summary>
/// <remarks>
/// E003: a value, an address or a schema that is not as it must be. E007: a schema of a later version. E008: the database does not answer, or failed.
/// </remarks>
public sealed class CatalogException : Exception
{
    internal CatalogException(string code, string what, string expected, string actual, Exception? inner = null)
        : base($"{code}: {what}: expected {expected}, got {actual}", inner)
    {
        (Code, Expected, Actual) = (code, expected, actual);
    }

    /// <summary>The error's code, "E008".</summary>
    public string Code { get; }

    /// <summary>What the catalog needed.</summary>
    public string Expected { get; }

    /// <summary>What it met.</summary>
    public string Actual { get; }

    internal static CatalogException Invalid(string what, string expected, string actual, Exception? inner = null) => new("E003", what, expected, actual, inner);

    internal static CatalogException Newer(int newest, int found) => new("E007", "catalog schema", $"version {newest} or earlier", $"version {found}");

    internal static CatalogException Unavailable(string address, string actual, Exception? inner) => new("E008", "catalog", $"an answer of {address}", actual, inner);

    internal static CatalogException Failed(string address, string actual, Exception? inner) => new("E008", "catalog", $"{address} to do what it was asked", actual, inner);
}
