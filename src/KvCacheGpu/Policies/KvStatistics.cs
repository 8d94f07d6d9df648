namespace KvCacheGpu;

/// <summary>The statistics that a policy reads beyond the places and bytes of pages; the engine gathers no others.</summary>
[Flags]
public enum KvStatistics
{
    /// <summary>Places and bytes alone.</summary>
    None = 0,

    /// <summary><see cref="KvPages.Mass"/>, <see cref="KvPages.Peak"/>, <see cref="KvPages.LastMass"/>, <see cref="KvPages.LastUsed"/>, <see cref="KvPages.Uses"/>.</summary>
    Mass = 1,

    /// <summary><see cref="KvPages.WindowMass"/>: one extra pass at the end of each prefill.</summary>
    WindowMass = 2,

    /// <summary><see cref="KvPages.KeyMean"/>.</summary>
    KeyMeans = 4,

    /// <summary><see cref="KvPages.KeySquare"/>, <see cref="KvPages.ValueSquare"/>, <see cref="KvPages.QuerySquare"/>, <see cref="KvPages.OutputSquare"/>.</summary>
    Queries = 8,

    /// <summary><see cref="KvPages.FutureQueryMean"/> and <see cref="KvPages.FutureQueryVariance"/>: only if the geometry has its <see cref="KvGeometry.Rope"/>.</summary>
    FutureQueries = 16,
}
