namespace KvCacheGpu.Catalog;

/// <summary>A column of cache_entries that a version needs, even if somebody else made it.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Since">The version that needs it.</param>
/// <param name="Kind">The kind of values that it must hold.</param>
/// <param name="Points">Number of code points for which a text must have room.</param>
internal sealed record NeededColumn(string Name, int Since, ColumnKind Kind, int Points = 0)
{
    /// <summary>The type to which it is widened if it is a text with less room than is needed; null if it has the room. It stays wide on the way down.</summary>
    public string? WiderType(CatalogDatabase database, string type) => Kind == ColumnKind.Text ? database.WiderType(type, Points) : null;

    /// <summary>The type that it should have, if its type cannot hold the values; null if it can.</summary>
    /// <param name="database">The database.</param>
    /// <param name="type">Its type as the database names it; empty if the column is planned and not read from the database.</param>
    public string? FlawOf(CatalogDatabase database, string type) => type.Length == 0 ? null : database.NeededType(Kind, type);
}
