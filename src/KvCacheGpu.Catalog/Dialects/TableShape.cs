namespace KvCacheGpu.Catalog;

/// <summary>What a database holds of the catalog.</summary>
/// <param name="Columns">Type of each column, as the database names it, by "table.column".</param>
/// <param name="Indexes">"index(columns)", and "table trigger" where there are triggers, in the database's own words.</param>
/// <param name="Recorded">Steps that are recorded as done, with the checksum of each; null without a record.</param>
internal sealed record TableShape(
    IReadOnlyDictionary<string, string> Columns, IReadOnlyDictionary<string, string> Indexes, IReadOnlyDictionary<int, string>? Recorded);
