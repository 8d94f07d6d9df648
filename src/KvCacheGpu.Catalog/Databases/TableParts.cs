namespace KvCacheGpu.Catalog;

/// <summary>The parts of the catalog that a database has, as a provider finds them.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Columns">Type of each column, as the database names it, by "table.column", both in small letters.</param>
/// <param name="Indexes">
/// The definition of each index of cache_entries, in the database's own words, by name; <see cref="KeyIsUnique"/>; and, where a database needs them, triggers
/// ("trigger") and further tables ("table").
/// </param>
/// <param name="Record">The name of the table that records steps, as SQL names it.</param>
/// <param name="Elsewhere">A schema outside of the search path that holds a table cache_entries, if the path holds none and nobody chose the path; otherwise null.</param>
public sealed record TableParts(
    IReadOnlyDictionary<string, string> Columns, IReadOnlyDictionary<string, string> Indexes, string Record = "kvcache_schema", string? Elsewhere = null)
{
    /// <summary>Is among the indexes, with the definition "key", if some index makes keys unique, whatever its name.</summary>
    public const string KeyIsUnique = "unique key";
}

/// <summary>An index, trigger or further table that a version of the schema needs on one kind of database.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Name">Its name.</param>
/// <param name="Since">The version that needs it.</param>
/// <param name="Definition">Its definition, as in <see cref="TableParts.Indexes"/>.</param>
public sealed record NeededIndex(string Name, int Since, string Definition);

/// <summary>The kind of values that a column must hold.</summary>
public enum ColumnKind
{
    /// <summary>Text, of which every code point is kept.</summary>
    Text,

    /// <summary>Bytes.</summary>
    Bytes,

    /// <summary>A time, to the microsecond.</summary>
    Time,

    /// <summary>A JSON object.</summary>
    Json,

    /// <summary>An integer of 32 bits.</summary>
    Integer,

    /// <summary>An integer of 64 bits.</summary>
    Long,
}
