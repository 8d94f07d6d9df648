namespace KvCacheGpu.Catalog;

/// <summary>What a database holds of the catalog.</summary>
/// <param name="Columns">Type of each column, as the database names it, by "table.column", both in small letters.</param>
/// <param name="Indexes">What each index and trigger of cache_entries is on, in the database's own words, by name; and <see cref="KeyIsUnique"/>.</param>
/// <param name="Recorded">Steps that are recorded as done; null without a record.</param>
/// <param name="Elsewhere">A schema outside of the search path that holds a table cache_entries, where the path holds none and nobody chose it; null else.</param>
internal sealed record TableShape(
    IReadOnlyDictionary<string, string> Columns, IReadOnlyDictionary<string, string> Indexes, IReadOnlyDictionary<int, StepRecord>? Recorded, string? Elsewhere = null)
{
    /// <summary>The catalog's table.</summary>
    public const string Entries = "cache_entries";

    /// <summary>Stands among the indexes where some index makes keys unique, whatever its name.</summary>
    public const string KeyIsUnique = "unique key";

    /// <summary>Whether the record has a place for the parts that a step made: those of before 2.1 have none.</summary>
    public bool RecordsParts => Columns.ContainsKey("kvcache_schema.added");

    public bool HasTable(string name) => ColumnsOf(name).Any();

    public bool HasColumn(string name) => Columns.ContainsKey($"{Entries}.{name}");

    /// <summary>Names of a table's columns.</summary>
    public IEnumerable<string> ColumnsOf(string table) =>
        Columns.Keys.Where(column => column.StartsWith(table + ".", StringComparison.Ordinal)).Select(column => column[(table.Length + 1)..]);

    /// <summary>As it will be once a step has made its parts: what the next step of a plan begins with.</summary>
    public TableShape With(IReadOnlyList<StepPart> parts)
    {
        Dictionary<string, string> columns = new(Columns) { ["kvcache_schema.added"] = "text" };
        Dictionary<string, string> indexes = new(Indexes);
        foreach (StepPart part in parts)
        {
            if (part is { Kind: "TABLE", Name: Entries })
            {
                Array.ForEach(["key", "value", "created_at", "accessed_at"], name => columns[$"{Entries}.{name}"] = string.Empty);
                indexes[KeyIsUnique] = "key";
            }
            else if (part.IsColumn)
            {
                columns[$"{Entries}.{part.Name}"] = string.Empty;
            }
        }

        return this with { Columns = columns, Indexes = indexes };
    }
}

/// <summary>A step that is recorded as done.</summary>
/// <param name="Checksum">SHA-256 of its SQL.</param>
/// <param name="Added">The parts that it made, others were there; null where it was not noted: all of the step's own.</param>
internal sealed record StepRecord(string Checksum, string? Added);
