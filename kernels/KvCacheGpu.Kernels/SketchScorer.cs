namespace KvCacheGpu.Kernels;

/// <summary>One page in host memory that queries may ask for.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Block">Where its <see cref="KeySketch"/> lies.</param>
/// <param name="Unit">The sketch's first unit there.</param>
/// <param name="Sequence">Which of the batch's sequences asks.</param>
/// <param name="Head">KV head.</param>
public readonly record struct SketchRead(HostBlock Block, int Unit, int Sequence, int Head);

/// <summary>Tells on the device which pages in host memory a batch's queries ask for, by the sketches of their keys.</summary>
/// <remarks>Thread safety: that of its batch.</remarks>
public abstract class SketchScorer
{
    /// <summary>Queries of each sequence and KV head that are looked at: of more, so many evenly apart, the last among them.</summary>
    public const int MostQueries = 64;

    /// <summary>The first of the queries that are looked at, and those after it, by their order among all.</summary>
    /// <param name="looked">Which of those that are looked at.</param>
    /// <param name="count">How many are.</param>
    /// <param name="all">How many there are.</param>
    public static int QueryAt(int looked, int count, int all) => (int)((((long)looked + 1) * all / count) - 1);

    /// <summary>
    /// Scores pages: the largest product of a query with a key, as far as the sketches tell, times <see cref="KvGeometry.AttentionScale"/> up to a power of two; -infinity where nothing is a number. Waits for the device.
    /// </summary>
    /// <param name="layer">The layer of the queries and pages.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>, as for <see cref="KernelBatch.Attend"/>.</param>
    /// <param name="pages">The pages.</param>
    /// <param name="scores">Receives the score of each.</param>
    public abstract void Score(int layer, KvTensor queries, ReadOnlySpan<SketchRead> pages, Span<float> scores);
}
