using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>What a column must take.</summary>
internal enum ColumnKind
{
    Text,
    Bytes,
    Time,
    Json,
    Integer,
    Long,
}

/// <summary>A column of cache_entries that a version needs, whoever made it.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Since">The version that needs it.</param>
/// <param name="Kind">What it must take.</param>
/// <param name="Points">Code points that a text must have room for.</param>
internal sealed partial record NeededColumn(string Name, int Since, ColumnKind Kind, int Points = 0)
{
    /// <summary>The type that a text too narrow is widened to. It stays: what went up must go down.</summary>
    public string Wide => Points <= EntryCheck.MaxId ? $"VARCHAR({Points})" : "TEXT";

    /// <summary>Whether PostgreSQL's type is a text with less room than is needed.</summary>
    public bool IsNarrow(string type) =>
        Kind == ColumnKind.Text && Limited().Match(type) is { Success: true } match && int.Parse(match.Groups["n"].Value, CultureInfo.InvariantCulture) < Points;

    /// <summary>What it should be, where its type cannot hold what it must; null where it can.</summary>
    /// <param name="isPostgres">SQLite otherwise, which keeps any value under any type, but turns texts into numbers under some.</param>
    /// <param name="type">Its type as the database names it.</param>
    public string? FlawOf(bool isPostgres, string type) => Kind switch
    {
        // Not read from the database but planned.
        _ when type.Length == 0 => null,
        ColumnKind.Text when isPostgres => type is "text" or "character varying" || Limited().IsMatch(type) ? null : "text or character varying",
        ColumnKind.Text => KeepsTexts().IsMatch(type) && !type.Contains("INT", StringComparison.Ordinal) ? null : "of type TEXT",
        _ when !isPostgres => null,
        ColumnKind.Bytes => type == "bytea" ? null : "bytea",
        ColumnKind.Time => Timestamp().IsMatch(type) ? null : "a timestamp",
        ColumnKind.Json => type == "jsonb" ? null : "jsonb",
        ColumnKind.Integer => type == "integer" ? null : "integer",
        _ => type == "bigint" ? null : "bigint",
    };

    [GeneratedRegex(@"^character varying\((?<n>\d+)\)$")]
    private static partial Regex Limited();

    [GeneratedRegex(@"^timestamp(\(\d\))? with(out)? time zone$")]
    private static partial Regex Timestamp();

    // SQLite's rules of affinity: by these syllables a column keeps texts as they are.
    [GeneratedRegex("CHAR|CLOB|TEXT|BLOB")]
    private static partial Regex KeepsTexts();
}
