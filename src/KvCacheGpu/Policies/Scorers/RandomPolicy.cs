namespace KvCacheGpu;

/// <summary>Keeps pages at random, with one seed always the same pages: the baseline that a policy has to beat.</summary>
/// <remarks>Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.</remarks>
/// <param name="seed">Seed. The default value is 0.</param>
public sealed class RandomPolicy(ulong seed = 0) : RankedPolicy
{
    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        for (int row = 0; row < pages.Rows; row++)
        {
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] = Mix(seed ^ Mix(((ulong)(uint)row << 32) | (uint)pages.PageIndex[page])) >> 40;
            }
        }
    }

    // SplitMix64 (Steele et al. 2014).
    private static ulong Mix(ulong x)
    {
        x += 0x9E3779B97F4A7C15;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }
}
