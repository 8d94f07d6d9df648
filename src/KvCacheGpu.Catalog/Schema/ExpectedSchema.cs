using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>The parts that each version needs of a database, and the differences of a given one.</summary>
internal static partial class ExpectedSchema
{
    /// <summary>The index that a step makes if none makes keys unique.</summary>
    public const string UniqueKey = "idx_cache_unique";

    private static readonly NeededColumn[] _columns =
    [
        new("key", 1, ColumnKind.Text, EntryCheck.MaxId),
        new("session_id", 2, ColumnKind.Text, EntryCheck.MaxId),
        new("metadata", 2, ColumnKind.Json),
        new("value", 3, ColumnKind.Bytes),
        new("created_at", 3, ColumnKind.Time),
        new("accessed_at", 3, ColumnKind.Time),
        new("tenant", 3, ColumnKind.Text, EntryCheck.MaxId),
        new("name", 3, ColumnKind.Text, EntryCheck.MaxText),
        new("path", 3, ColumnKind.Text, EntryCheck.MaxText),
        new("checksum", 3, ColumnKind.Text, EntryCheck.MaxId),
        new("format_version", 3, ColumnKind.Integer),
        new("bytes", 3, ColumnKind.Long),
        new("layers", 3, ColumnKind.Integer),
        new("tokens", 3, ColumnKind.Long),
    ];

    /// <summary>The version that the parts show if none is recorded. A schema that has only some parts of version 2 is of version 1: step 2 adds the others.</summary>
    public static int Infer(TableShape shape) =>
        !shape.HasTable(TableShape.Entries) ? 0
        : shape.HasColumn("session_id") && shape.HasColumn("metadata") && shape.Indexes.ContainsKey("idx_session_id") ? 2 : 1;

    /// <summary>The parts of a version that the database lacks, and parts that stand in the way of later versions. Any other part that it holds is no difference.</summary>
    public static IEnumerable<string> Differences(CatalogDatabase database, TableShape shape, int version)
    {
        if (shape.Elsewhere is string schema)
        {
            yield return $"there is no table cache_entries in the search path, but one in schema {schema}: "
                + $"add ?options=-csearch_path%3D{Uri.EscapeDataString(schema)} to the address (another schema there makes a new table in it)";
        }

        foreach (NeededColumn column in _columns)
        {
            if (!shape.Columns.TryGetValue($"{TableShape.Entries}.{column.Name}", out string? type))
            {
                if (column.Since <= version)
                {
                    yield return $"column {column.Name} is missing";
                }
            }
            else if (column.FlawOf(database, type) is string needed)
            {
                yield return $"column {column.Name} is {type}, not {needed}: change its type, or rename it";
            }
            else if (version == SchemaStep.Newest && column.WiderType(database, type) is string wide)
            {
                yield return $"column {column.Name} is {type}, not {wide}";
            }
        }

        foreach ((string name, int since, string expected) in database.NeededIndexes)
        {
            if (!shape.Indexes.TryGetValue(name, out string? actual))
            {
                if (since <= version)
                {
                    yield return name == TableParts.KeyIsUnique ? "no index makes keys unique" : $"{(expected is "trigger" or "table" ? expected : "index")} {name} is missing";
                }
            }
            else if (actual != expected && !IsByTheGuide(name, actual))
            {
                yield return $"index {name} is on {actual}, not {expected}: rename it";
            }
        }
    }

    /// <summary>Statements that widen columns, if a step needs longer texts than a column holds.</summary>
    public static IEnumerable<string> Widenings(CatalogDatabase database, TableShape shape, int version) =>
        from column in version == SchemaStep.Newest ? _columns : []
        let wide = shape.Columns.TryGetValue($"{TableShape.Entries}.{column.Name}", out string? type) ? column.WiderType(database, type) : null
        where wide is not null
        select $"ALTER TABLE {TableShape.Entries} ALTER COLUMN {column.Name} TYPE {wide}";

    /// <summary>The differences between the record of steps and the steps of this library.</summary>
    public static IEnumerable<string> RecordDifferences(CatalogDatabase database, IReadOnlyDictionary<int, StepRecord> recorded)
    {
        for (int step = 1; step <= recorded.Keys.DefaultIfEmpty(0).Max(); step++)
        {
            string checksum = SchemaStep.ChecksumOf(database, step);
            if (!recorded.TryGetValue(step, out StepRecord? actual))
            {
                yield return $"step {step} is not recorded, a later one is";
            }
            else if (actual.Checksum != checksum && actual.Checksum != database.EarlierChecksums.ElementAtOrDefault(step - 1))
            {
                yield return $"step {step} is recorded with checksum {Short(actual.Checksum)}, not {Short(checksum)}";
            }
        }
    }

    // Version 2.0 has an index of this name that begins with the session and is not unique; it may be partial, have further columns, or be a hash index.
    private static bool IsByTheGuide(string name, string actual) => name == "idx_session_id" && LeadsWithSession().IsMatch(actual);

    private static string Short(string checksum) => checksum[..Math.Min(12, checksum.Length)];

    [GeneratedRegex(@"^(\w+ \()?session_id\b")]
    private static partial Regex LeadsWithSession();
}
