using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>
/// A kind of database that can hold a catalog. <c>SqliteCatalog.Provider</c> lies in the package KvCacheGpu.Catalog.Sqlite and
/// <c>PostgreSqlCatalog.Provider</c> in KvCacheGpu.Catalog.PostgreSql, so that a program brings the drivers alone that it uses.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
public abstract partial class CatalogProvider
{
    private const int MostLength = 8192;

    /// <summary>The form of its addresses, as messages show it: "sqlite:PATH".</summary>
    protected internal abstract string Form { get; }

    /// <summary>One provider for the addresses of several. The first that knows an address reads it.</summary>
    /// <param name="providers">The providers, at least one.</param>
    public static CatalogProvider Join(params IReadOnlyList<CatalogProvider> providers)
    {
        ArgumentNullException.ThrowIfNull(providers);
        ArgumentOutOfRangeException.ThrowIfZero(providers.Count, nameof(providers));
        return new Joined([.. providers]);
    }

    /// <summary>Reads an address, without connecting. No message repeats it, nor any part of it that may belong to a password.</summary>
    /// <param name="kind">The word before the first colon, without a driver of SQLAlchemy: "sqlite". Empty if the address does not begin with a word and a colon.</param>
    /// <param name="rest">The address after that colon.</param>
    /// <param name="options">The number of retries and the times to wait.</param>
    /// <returns>The database; null if the address is of another kind.</returns>
    /// <exception cref="CatalogException">E003: the address is of this kind, and cannot be read.</exception>
    protected internal abstract CatalogDatabase? Read(string kind, string rest, CatalogOptions options);

    /// <summary>The name of an unknown parameter for a message, if it has the form of a name; otherwise "another", because it might belong to a password.</summary>
    /// <param name="name">The parameter's name as the address has it.</param>
    protected static string Shown(string name) => Name().IsMatch(name) ? name : "another";

    internal CatalogDatabase Open(string address, CatalogOptions? options)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (string.IsNullOrWhiteSpace(address))
        {
            throw CatalogException.Invalid("database", Form, "an empty text, as of a variable that is not set");
        }

        if (address.Length > MostLength)
        {
            throw CatalogException.Invalid("database", $"an address of at most {MostLength} characters", $"{address.Length}");
        }

        Match kind = Kind().Match(address);
        return Read(kind.Groups["kind"].Value, address[kind.Length..], (options ?? new CatalogOptions()).Check())
            ?? throw CatalogException.Invalid("database", Form, "another kind of address");
    }

    [GeneratedRegex(@"^(?<kind>[a-z]+)(\+[a-z0-9_]+(?=://))?:", RegexOptions.ExplicitCapture)]
    private static partial Regex Kind();

    [GeneratedRegex(@"^[a-z_]{1,32}(=[a-z]{0,16})?$")]
    private static partial Regex Name();

    private sealed class Joined(CatalogProvider[] providers) : CatalogProvider
    {
        protected internal override string Form => string.Join(" or ", providers.Select(provider => provider.Form));

        protected internal override CatalogDatabase? Read(string kind, string rest, CatalogOptions options) =>
            providers.Select(provider => provider.Read(kind, rest, options)).FirstOrDefault(database => database is not null);
    }
}
