using Microsoft.Data.Sqlite;

namespace KvCacheGpu.Catalog;

/// <summary>
/// Catalogs in an SQLite file. Addresses: <c>sqlite:PATH?mode=...</c>, and SQLAlchemy's form <c>sqlite:///PATH</c> (a fourth slash begins an absolute path).
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed class SqliteCatalog : CatalogProvider
{
    private SqliteCatalog()
    {
    }

    /// <summary>The provider, for <c>new CacheCatalog("sqlite:catalog.db", SqliteCatalog.Provider)</c>.</summary>
    public static CatalogProvider Provider { get; } = new SqliteCatalog();

    /// <inheritdoc/>
    protected override string Form => "sqlite:PATH";

    /// <inheritdoc/>
    protected override CatalogDatabase? Read(string kind, string rest, CatalogOptions options) => kind == "sqlite" ? File(rest, options) : null;

    private static SqliteDatabase File(string rest, CatalogOptions options)
    {
        string[] parts = rest.Split('?', 2);
        SqliteOpenMode mode = parts.Length == 1 ? SqliteOpenMode.ReadWriteCreate : parts[1] switch
        {
            "mode=ro" => SqliteOpenMode.ReadOnly,
            "mode=rw" => SqliteOpenMode.ReadWrite,
            "mode=rwc" => SqliteOpenMode.ReadWriteCreate,
            _ => throw CatalogException.Invalid("database", "the one parameter mode (ro, rw, rwc) of sqlite", $"'{Shown(parts[1])}'"),
        };

        // SQLAlchemy's form has an empty host before the path.
        string path = !parts[0].StartsWith("//", StringComparison.Ordinal) ? parts[0]
            : parts[0].StartsWith("///", StringComparison.Ordinal) ? parts[0][3..]
            : parts[0].Length == 2 ? string.Empty
            : throw CatalogException.Invalid("database", "sqlite:PATH, or sqlite:/// and a path", "a host");
        string? flaw = string.IsNullOrWhiteSpace(path) ? "no path" : path == ":memory:" || path.Contains('\0', StringComparison.Ordinal) ? "no file" : null;
        return flaw is null ? new SqliteDatabase(path, mode, options) : throw CatalogException.Invalid("database", "sqlite:PATH, a file", flaw);
    }
}
