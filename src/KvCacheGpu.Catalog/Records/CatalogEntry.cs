namespace KvCacheGpu.Catalog;

/// <summary>A row of <c>cache_entries</c>: a snapshot if it has a <see cref="Path"/>; otherwise a session, or an entry of an old version.</summary>
/// <remarks>
/// Texts are stored and compared code point by code point: texts that differ in case or in Unicode normalisation are different.
/// Thread safety: it never changes.
/// </remarks>
public sealed record CatalogEntry
{
    /// <summary>The key that identifies it, 1 to 255 code points. A store's file name (the hash of tenant and name) serves for any snapshot.</summary>
    public required string Key { get; init; }

    /// <summary>The session it belongs to, up to 255 code points.</summary>
    public string? Session { get; init; }

    /// <summary>The tenant it belongs to, up to 255 code points.</summary>
    public string? Tenant { get; init; }

    /// <summary>Its name, for people, up to 16,384 code points.</summary>
    public string? Name { get; init; }

    /// <summary>The store that holds the snapshot, up to 16,384 code points, by which <see cref="CacheCatalog.RebuildAsync"/> finds it.</summary>
    public string? Path { get; init; }

    /// <summary>Digest of the snapshot's content, up to 255 code points.</summary>
    public string? Checksum { get; init; }

    /// <summary>Version of its format.</summary>
    public int? FormatVersion { get; init; }

    /// <summary>Bytes that it takes in the store.</summary>
    public long? Bytes { get; init; }

    /// <summary>Number of layers.</summary>
    public int? Layers { get; init; }

    /// <summary>Number of tokens of all its sequences.</summary>
    public long? Tokens { get; init; }

    /// <summary>
    /// A JSON object of up to 1 MiB. It comes back with its names in ordinal order and without white space; numbers are 64-bit integers or binary64.
    /// </summary>
    public string? Metadata { get; init; }

    /// <summary>Time at which it was made, to the microsecond, 1970 or later; null for now.</summary>
    public DateTimeOffset? Created { get; init; }

    /// <summary>Time of its last use, to the microsecond; null for <see cref="Created"/>.</summary>
    public DateTimeOffset? Accessed { get; init; }
}

/// <summary>Selects entries: those that agree with every property that is not null.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record CatalogFilter
{
    /// <summary>The exact session.</summary>
    public string? Session { get; init; }

    /// <summary>The exact tenant.</summary>
    public string? Tenant { get; init; }

    /// <summary>
    /// A JSON object that their metadata contain, by the rules of PostgreSQL's <c>@&gt;</c>: every name of this object is there, with a value that contains
    /// its value. An array contains another one if each element of the other is contained in one of its own.
    /// </summary>
    public string? Metadata { get; init; }
}

/// <summary>A page of a listing, in the order of keys' UTF-8 bytes.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Entries">The entries.</param>
/// <param name="Next">The value of <c>after</c> for the next page; null if this is the last page.</param>
public sealed record CatalogPage(IReadOnlyList<CatalogEntry> Entries, string? Next);
