namespace KvCacheGpu.Catalog;

/// <summary>A row of <c>cache_entries</c>: a snapshot where it has a <see cref="Path"/>, a session or an entry of an old version where it has none.</summary>
/// <remarks>Texts are stored and compared code point by code point: neither case nor Unicode normalisation makes two equal.</remarks>
public sealed record CatalogEntry
{
    /// <summary>What it is found by: 1 to 255 code points. A store's file name (the hash of tenant and name) fits any snapshot.</summary>
    public required string Key { get; init; }

    /// <summary>The session it belongs to, up to 255 code points.</summary>
    public string? Session { get; init; }

    /// <summary>The tenant it belongs to, up to 255 code points.</summary>
    public string? Tenant { get; init; }

    /// <summary>Its name, for people, up to 16,384 code points.</summary>
    public string? Name { get; init; }

    /// <summary>The store that a snapshot lies in, up to 16,384 code points; <see cref="CacheCatalog.RebuildAsync"/> goes by it.</summary>
    public string? Path { get; init; }

    /// <summary>Digest of what lies there, up to 255 code points.</summary>
    public string? Checksum { get; init; }

    /// <summary>Version of its format.</summary>
    public int? FormatVersion { get; init; }

    /// <summary>Bytes that it takes where it lies.</summary>
    public long? Bytes { get; init; }

    /// <summary>Layers.</summary>
    public int? Layers { get; init; }

    /// <summary>Tokens, over all its sequences.</summary>
    public long? Tokens { get; init; }

    /// <summary>
    /// A JSON object of up to 1 MiB. It comes back with its names in ordinal order and without white space; numbers are 64-bit integers or binary64.
    /// </summary>
    public string? Metadata { get; init; }

    /// <summary>When it was made, in microseconds, from 1970 on; null is now.</summary>
    public DateTimeOffset? Created { get; init; }

    /// <summary>When it was last used, likewise; null is <see cref="Created"/>.</summary>
    public DateTimeOffset? Accessed { get; init; }
}

/// <summary>What to list: entries that agree with everything that is not null.</summary>
public sealed record CatalogFilter
{
    /// <summary>Their session, exactly.</summary>
    public string? Session { get; init; }

    /// <summary>Their tenant, exactly.</summary>
    public string? Tenant { get; init; }

    /// <summary>
    /// A JSON object that their metadata contains, by the rules of PostgreSQL's <c>@&gt;</c>: every name is there with a value that contains
    /// this one's; an array contains another where each of the other's elements is contained in one of its own.
    /// </summary>
    public string? Metadata { get; init; }
}

/// <summary>A page of a listing, in the order of keys' UTF-8 bytes.</summary>
/// <param name="Entries">The entries.</param>
/// <param name="Next">What to pass as <c>after</c> for the next page; null after the last.</param>
public sealed record CatalogPage(IReadOnlyList<CatalogEntry> Entries, string? Next);
