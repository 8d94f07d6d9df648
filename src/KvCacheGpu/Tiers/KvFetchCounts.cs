namespace KvCacheGpu;

/// <summary>Blocks that a cache fetched from lower tiers, and what became of them. Thread safety: it never changes.</summary>
/// <param name="Fetched">Blocks that came.</param>
/// <param name="Late">Those that a sequence waited for: nobody had asked for them ahead.</param>
/// <param name="Used">Those that a sequence began with.</param>
/// <param name="Wasted">Those whose room was needed before any sequence began with them.</param>
/// <param name="LeftOut">Blocks that were not backed up: too many waited, or they were given up before they were copied.</param>
public readonly record struct KvFetchCounts(long Fetched, long Late, long Used, long Wasted, long LeftOut);
