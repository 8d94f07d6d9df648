using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>A statement of a step, and the part of the schema that it makes. The part may be there already, made by hand or by a script.</summary>
/// <param name="Sql">The statement.</param>
/// <param name="Kind">"TABLE", "COLUMN" (of cache_entries), "INDEX" or "TRIGGER"; empty if it makes none of them.</param>
/// <param name="Name">The name of the part that it makes, or empty.</param>
internal sealed partial record StepPart(string Sql, string Kind, string Name)
{
    /// <summary>The part as a step's record names it.</summary>
    public string Text => $"{Kind} {Name}";

    public bool IsColumn => Kind == "COLUMN";

    /// <summary>The statement that takes the part away again.</summary>
    public string Drop => IsColumn ? $"ALTER TABLE {TableShape.Entries} DROP COLUMN {Name}" : $"DROP {Kind} {Name}";

    /// <summary>True if a version before ours could have left the part out: it belongs to the step only if the step's record names it.</summary>
    public bool IsOfOldTable => Name is "value" or "created_at" or "accessed_at" or ExpectedSchema.UniqueKey;

    /// <summary>Reads the statements of a step, which are paragraphs, because triggers have semicolons of their own.</summary>
    public static IReadOnlyList<StepPart> ReadAll(string sql) => [.. sql.Trim().Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(Read)];

    /// <summary>True if the database has the part.</summary>
    public bool IsIn(TableShape shape) => Kind switch
    {
        "TABLE" => shape.HasTable(Name),
        "COLUMN" => shape.HasColumn(Name),
        "INDEX" when Name == ExpectedSchema.UniqueKey => shape.Indexes.ContainsKey(TableParts.KeyIsUnique),
        "INDEX" or "TRIGGER" => shape.Indexes.ContainsKey(Name),
        _ => false,
    };

    private static StepPart Read(string sql)
    {
        Match made = Made().Match(sql);
        return new StepPart(sql, made.Groups["kind"].Value, made.Groups["name"].Value);
    }

    [GeneratedRegex(@"^(--.*\n)*(CREATE (UNIQUE )?(?<kind>TABLE|INDEX|TRIGGER)|ALTER TABLE cache_entries ADD (?<kind>COLUMN)) (?<name>\w+)", RegexOptions.ExplicitCapture)]
    private static partial Regex Made();
}
