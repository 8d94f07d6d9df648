namespace KvCacheGpu.Catalog;

/// <summary>The catalog refuses a request, or fails. The codes are those of the cache.</summary>
/// <remarks>
/// E003: a value, an address or a schema is not valid. E007: the schema is of a later version. E008: the database does not answer, or has failed.
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

    /// <summary>The value that the catalog needs.</summary>
    public string Expected { get; }

    /// <summary>The value that it found.</summary>
    public string Actual { get; }

    /// <summary>The error E003, for providers: an address, a value or a database is not valid.</summary>
    /// <param name="what">The thing that is not valid.</param>
    /// <param name="expected">The value that the catalog needs.</param>
    /// <param name="actual">The value that it found, without secrets.</param>
    /// <param name="inner">The cause, or null.</param>
    public static CatalogException Invalid(string what, string expected, string actual, Exception? inner = null) => new("E003", what, expected, actual, inner);

    internal static CatalogException Newer(int newest, int found) => new("E007", "catalog schema", $"version {newest} or earlier", $"version {found}");

    internal static CatalogException Unavailable(string address, string actual, Exception? inner) => new("E008", "catalog", $"an answer of {address}", actual, inner);

    internal static CatalogException Failed(string address, string actual, Exception? inner) => new("E008", "catalog", $"{address} to do what it was asked", actual, inner);
}
