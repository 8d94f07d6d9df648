using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>The kind of values that a column must hold.</summary>
internal enum ColumnKind
{
    Text,
    Bytes,
    Time,
    Json,
    Integer,
    Long,
}

/// <summary>A column of cache_entries that a version needs, even if somebody else made it.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Since">The version that needs it.</param>
/// <param name="Kind">The kind of values that it must hold.</param>
/// <param name="Points">Number of code points for which a text must have room.</param>
internal sealed partial record NeededColumn(string Name, int Since, ColumnKind Kind, int Points = 0)
{
    /// <summary>The type to which a text that is too narrow is widened. The column stays wide on the way down.</summary>
    public string Wide => Points <= EntryCheck.MaxId ? $"VARCHAR({Points})" : "TEXT";

    /// <summary>True if PostgreSQL's type is a text with less room than is needed.</summary>
    public bool IsNarrow(string type) =>
        Kind == ColumnKind.Text && Limited().Match(type) is { Success: true } match && int.Parse(match.Groups["n"].Value, CultureInfo.InvariantCulture) < Points;

    /// <summary>The type that it should have, if its type cannot hold the values; null if it can.</summary>
    /// <param name="isPostgres">False for SQLite, which keeps any value in a column of any type, but turns texts into numbers in some.</param>
    /// <param name="type">Its type as the database names it.</param>
    public string? FlawOf(bool isPostgres, string type) => Kind switch
    {
        // The column is planned and not read from the database.
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

    // By SQLite's rules of affinity, a column whose type has one of these syllables keeps texts as they are.
    [GeneratedRegex("CHAR|CLOB|TEXT|BLOB")]
    private static partial Regex KeepsTexts();
}
