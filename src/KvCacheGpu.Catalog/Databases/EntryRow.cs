using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>An entry as a row: the order of its columns for writing and reading.</summary>
internal static class EntryRow
{
    private static readonly string[] _kept = ["session_id", "metadata", "accessed_at"];

    private static readonly string[] _columns =
    [
        "session_id", "tenant", "name", "path", "checksum", "format_version", "bytes", "layers", "tokens", "metadata", "created_at", "accessed_at",
    ];

    /// <summary>The statement that inserts or replaces a row. With <paramref name="keep"/>, the time of last use stays, and session and metadata stay if the new entry has none.</summary>
    public static string Upsert(CatalogDatabase database, bool keep)
    {
        string values = string.Join(", ", _columns.Select(c => c == "metadata" ? database.MetadataValue : "@" + c));
        string sets = string.Join(", ", _columns.Select(c =>
            !keep || !_kept.Contains(c) ? $"{c} = excluded.{c}"
            : c == "accessed_at" ? "accessed_at = COALESCE(cache_entries.accessed_at, excluded.accessed_at)"
            : $"{c} = COALESCE(excluded.{c}, cache_entries.{c})"));

        // Old tables may forbid a null value, so an empty one means "not here". An old entry keeps its own.
        return $"INSERT INTO cache_entries (key, value, {string.Join(", ", _columns)}) VALUES (@key, @value, {values}) ON CONFLICT (key) DO UPDATE SET {sets}";
    }

    /// <summary>The values of a checked entry.</summary>
    public static (string, object?)[] Values(CatalogDatabase database, CatalogEntry entry) =>
    [
        ("key", entry.Key), ("value", Array.Empty<byte>()), ("session_id", entry.Session), ("tenant", entry.Tenant), ("name", entry.Name),
        ("path", entry.Path), ("checksum", entry.Checksum), ("format_version", entry.FormatVersion), ("bytes", entry.Bytes),
        ("layers", entry.Layers), ("tokens", entry.Tokens), ("metadata", entry.Metadata),
        ("created_at", database.Time(entry.Created!.Value)), ("accessed_at", database.Time(entry.Accessed!.Value)),
    ];

    /// <summary>Reads a row of <see cref="CatalogDatabase.Columns"/>.</summary>
    public static CatalogEntry Read(CatalogDatabase database, DbDataReader row) => new()
    {
        Key = row.GetString(0),
        Session = Text(row, 1),
        Tenant = Text(row, 2),
        Name = Text(row, 3),
        Path = Text(row, 4),
        Checksum = Text(row, 5),
        FormatVersion = row.IsDBNull(6) ? null : row.GetInt32(6),
        Bytes = row.IsDBNull(7) ? null : row.GetInt64(7),
        Layers = row.IsDBNull(8) ? null : row.GetInt32(8),
        Tokens = row.IsDBNull(9) ? null : row.GetInt64(9),
        Metadata = Text(row, 10) is string json ? Json.Read(json) : null,
        Created = database.ReadTime(row.GetValue(11)),
        Accessed = database.ReadTime(row.GetValue(12)),
    };

    private static string? Text(DbDataReader row, int column) => row.IsDBNull(column) ? null : row.GetString(column);
}
