namespace KvCacheGpu.Catalog;

/// <summary>The parts of the catalog that a database has, or will have after a step.</summary>
/// <param name="Columns">As in <see cref="TableParts"/>.</param>
/// <param name="Indexes">As in <see cref="TableParts"/>.</param>
/// <param name="Recorded">Steps that are recorded as done; null without a record.</param>
/// <param name="Elsewhere">As in <see cref="TableParts"/>.</param>
internal sealed record TableShape(
    IReadOnlyDictionary<string, string> Columns, IReadOnlyDictionary<string, string> Indexes, IReadOnlyDictionary<int, StepRecord>? Recorded, string? Elsewhere = null)
{
    /// <summary>The catalog's table.</summary>
    public const string Entries = "cache_entries";

    /// <summary>True if the record has a column for the parts that a step made; records of versions before 2.1 have none.</summary>
    public bool RecordsParts => Columns.ContainsKey("kvcache_schema.added");

    public bool HasTable(string name) => ColumnsOf(name).Any();

    public bool HasColumn(string name) => Columns.ContainsKey($"{Entries}.{name}");

    /// <summary>Names of a table's columns.</summary>
    public IEnumerable<string> ColumnsOf(string table) =>
        Columns.Keys.Where(column => column.StartsWith(table + ".", StringComparison.Ordinal)).Select(column => column[(table.Length + 1)..]);
}

/// <summary>A step that is recorded as done.</summary>
/// <param name="Checksum">SHA-256 of its SQL.</param>
/// <param name="Added">The parts that the step made itself; null if they were not recorded: then all of the step's parts count as its own that no older version could have made.</param>
internal sealed record StepRecord(string Checksum, string? Added);
