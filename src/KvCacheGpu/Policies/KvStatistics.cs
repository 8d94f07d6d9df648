using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>What a policy reads of pages beyond their places and bytes; the engine gathers nothing else.</summary>
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

    /// <summary>Squares: <see cref="KvPages.KeySquare"/>, <see cref="KvPages.ValueSquare"/>, <see cref="KvPages.QuerySquare"/>, <see cref="KvPages.OutputSquare"/>.</summary>
    Queries = 8,

    /// <summary><see cref="KvPages.FutureQueryMean"/> and <see cref="KvPages.FutureQueryVariance"/>: only where <see cref="KvGeometry.Rope"/> is told.</summary>
    FutureQueries = 16,
}
