using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>A statement of a step, and what it makes: a part of the schema that may be there already, made by hand or by a script.</summary>
/// <param name="Sql">The statement.</param>
/// <param name="Kind">"TABLE", "COLUMN" (of cache_entries), "INDEX" or "TRIGGER"; empty where it makes none of them.</param>
/// <param name="Name">The name of what it makes, or empty.</param>
internal sealed partial record StepPart(string Sql, string Kind, string Name)
{
    /// <summary>What a step's record says of the parts that it made.</summary>
    public string Text => $"{Kind} {Name}";

    public bool IsColumn => Kind == "COLUMN";

    /// <summary>The statement that takes it away again.</summary>
    public string Drop => IsColumn ? $"ALTER TABLE {TableShape.Entries} DROP COLUMN {Name}" : $"DROP {Kind} {Name}";

    /// <summary>Whether a version before ours could have left it out: it is no part of the step unless the step's record says so.</summary>
    public bool IsOfOldTable => Name is "value" or "created_at" or "accessed_at" or ExpectedSchema.UniqueKey;

    /// <summary>Statements are paragraphs: triggers have semicolons of their own.</summary>
    public static IReadOnlyList<StepPart> ReadAll(string sql) => [.. sql.Trim().Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(Read)];

    /// <summary>Whether the database has it.</summary>
    public bool IsIn(TableShape shape) => Kind switch
    {
        "TABLE" => shape.HasTable(Name),
        "COLUMN" => shape.HasColumn(Name),
        "INDEX" when Name == ExpectedSchema.UniqueKey => shape.Indexes.ContainsKey(TableShape.KeyIsUnique),
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
