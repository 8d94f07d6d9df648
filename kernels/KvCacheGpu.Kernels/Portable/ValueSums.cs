using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The shared memory in which a group sums weighted values, beside its <see cref="QueryScratch"/>.
/// <code>
/// acc[R][wV]  largest[R][DimX]
/// state[R][4]             = running maximum, running sum, alpha, beta
/// range[R][5] (int)       = first entry, end entry, position, and of the page at hand: end of the tokens seen, first one seen
/// staged[planes][tokens]  = scales of values with more than one each, for as many tokens as fit
/// levels[16]              = those of the values' codes
/// </code>
/// </summary>
internal readonly struct ValueScratch
{
    /// <summary>Words of a query's state.</summary>
    public const int StateWords = 4;

    /// <summary>Words of a query's range.</summary>
    public const int RangeWords = 5;

    public readonly ArrayView<float> Acc;
    public readonly ArrayView<float> Largest;
    public readonly ArrayView<float> State;
    public readonly ArrayView<int> Range;
    public readonly ArrayView<float> Staged;
    public readonly ArrayView<float> Levels;

    public ValueScratch(ArrayView<float> shared, int first, int count, PageDims page, int valueWidth)
    {
        int at = first;
        Acc = shared.SubView(at, count * valueWidth);
        at += count * valueWidth;
        Largest = shared.SubView(at, count * Group.DimX);
        at += count * Group.DimX;
        State = shared.SubView(at, count * StateWords);
        at += count * StateWords;
        Range = shared.SubView(at, count * RangeWords).Cast<int>();
        at += count * RangeWords;
        Staged = shared.SubView(at, page.StagedPlanes * page.StagedTokens);
        Levels = shared.SubView(at + (page.StagedPlanes * page.StagedTokens), LevelTable.Size);
    }

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int Floats(int count, PageDims page, int valueWidth, int threads) =>
        (count * (valueWidth + threads + StateWords + RangeWords)) + (page.StagedPlanes * page.StagedTokens) + LevelTable.Size;
}

/// <summary>A page's logits to weights (online softmax), and its values times these.</summary>
internal static class ValueSums
{
    /// <summary>
    /// scores -> exp(score - the page's largest), times the value's scale; leaves each query's largest and sum in the two views of that name.
    /// A thread reads only scores that it wrote itself.
    /// </summary>
    public static void Weigh<TValue>(ArrayView<int> page, QueryScratch s, ValueScratch v, int seen, int scales, int pageTokens)
        where TValue : struct, IPortableCodec
    {
        ArrayView<float> scores = s.Scores;
        ArrayView<float> sums = s.Sums;
        ArrayView<float> largest = v.Largest;
        ArrayView<int> range = v.Range;
        for (int r = 0; r < s.Count; r++)
        {
            float most = float.NegativeInfinity;
            int begin = range[(r * ValueScratch.RangeWords) + 4];
            for (int t = Group.IdxX; t < range[(r * ValueScratch.RangeWords) + 3]; t += Group.DimX)
            {
                float score = t >= begin ? scores[(r * pageTokens) + t] : float.NegativeInfinity;
                most = score > most ? score : most;
            }

            largest[(r * Group.DimX) + Group.IdxX] = most;
        }

        SharedVector.Largest(largest, s.Count);
        for (int r = 0; r < s.Count; r++)
        {
            float most = largest[r * Group.DimX];
            float exponent = s.Exponents[r];
            float sum = 0f;
            float step = default(TValue).LevelBits > 0 ? LevelTable.Step(default(TValue).LevelBits) : 1f;
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                bool isSeen = t >= range[(r * ValueScratch.RangeWords) + 4] && t < range[(r * ValueScratch.RangeWords) + 3];
                float p = isSeen ? PortableMath.Exp(PortableMath.Scaled(scores[(r * pageTokens) + t] - most, exponent)) : 0f;
                sum += p;
                scores[(r * pageTokens) + t] = default(TValue).Scales == Scaling.Vector ? p * (Chunk.Half(page, scales, t) * step) : p;
            }

            sums[(r * Group.DimX) + Group.IdxX] = sum;
        }

        SharedVector.Sum(sums, s.Count);
        for (int r = 0; PortableMath.IsWide<TValue>() && r < s.Count; r++)
        {
            // The sum of huge values may leave binary32. Half of their mean does not, also as rounding leaves it: Fold takes it twice.
            float sum = 2f * sums[r * Group.DimX];
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                scores[(r * pageTokens) + t] = sum > 0f ? scores[(r * pageTokens) + t] / sum : 0f;
            }
        }
    }

    /// <summary>Online softmax: multiplies the earlier sums by alpha and the page's by beta. Of huge values it keeps means instead of sums.</summary>
    public static void Advance<TValue>(ArrayView<float> state, float exponent, int r, float largest, float sum, bool isSeen)
        where TValue : struct, IPortableCodec
    {
        int at = r * ValueScratch.StateWords;
        float before = state[at];
        float after = largest > before ? largest : before;
        float alpha = before == float.NegativeInfinity ? 0f : PortableMath.Exp(PortableMath.Scaled(before - after, exponent));
        float beta = isSeen ? PortableMath.Exp(PortableMath.Scaled(largest - after, exponent)) : 0f;
        float earlier = state[at + 1] * alpha;
        float whole = earlier + (sum * beta);
        state[at] = after;
        state[at + 1] = whole;
        if (PortableMath.IsWide<TValue>() && whole > 0f)
        {
            alpha = earlier / whole;
            beta = sum * beta / whole;
        }

        state[at + 2] = alpha;
        state[at + 3] = beta;
    }

    /// <summary>staged[plane][t - from] = the values' scales of tokens from..to, over those that were staged before.</summary>
    public static void Stage(ArrayView<int> page, ArrayView<float> staged, PageDims map, int from, int to)
    {
        if (from > 0)
        {
            Group.Barrier();
        }

        for (int i = Group.IdxX; i < map.StagedPlanes * map.StagedTokens; i += Group.DimX)
        {
            int plane = i / map.StagedTokens;
            int t = from + i - (plane * map.StagedTokens);
            staged[i] = t < to ? Chunk.Half(page, map.ValueScales + (plane * map.PlaneWords), t) : 0f;
        }

        Group.Barrier();
    }

    /// <summary>acc[r][d] = alpha acc[r][d] + beta sum_t scores[r][t] v[t][d] over tokens from..to; a thread keeps to its own elements.</summary>
    public static void Accumulate<TValue, TQueries>(
        ArrayView<int> page, ArrayView<float> scores, ValueScratch s, int from, int to, PageDims map, KernelDims dims)
        where TValue : struct, IPortableCodec
        where TQueries : struct, IQueryCount
    {
        ArrayView<float> acc = s.Acc;
        ArrayView<float> state = s.State;
        ArrayView<float> staged = s.Staged;
        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            int j = Chunk.Index<TValue>(d);
            int chunk = map.ValueFirst + (Chunk.Of<TValue>(d) * default(TValue).WordsPerChunk);
            int scale = default(TValue).Scales == Scaling.Group ? d / map.ValueGroup * 2 * map.StagedTokens : (d >> 5) * map.StagedTokens;
            float o0 = 0f;
            float o1 = 0f;
            float o2 = 0f;
            float o3 = 0f;
            for (int t = from; t < to; t++)
            {
                int low = page[chunk + (t * map.ValueWords) + default(TValue).LowWord(j)];
                int high = default(TValue).WordsPerChunk > 2 ? page[chunk + (t * map.ValueWords) + 2] : 0;
                float v = default(TValue).Decode(low, high, j, s.Levels);
                if (default(TValue).Scales == Scaling.Group)
                {
                    v = (staged[scale + t - from] * v) + staged[scale + map.StagedTokens + t - from];
                }

                if (default(TValue).Scales == Scaling.Block)
                {
                    v *= staged[scale + t - from];
                }

                o0 += v * scores[t];
                if (default(TQueries).Count > 1)
                {
                    o1 += v * scores[dims.PageTokens + t];
                    o2 += v * scores[(2 * dims.PageTokens) + t];
                    o3 += v * scores[(3 * dims.PageTokens) + t];
                }
            }

            Fold<TValue>(acc, d, o0, state, 0, from);
            if (default(TQueries).Count > 1)
            {
                Fold<TValue>(acc, dims.ValueWidth + d, o1, state, ValueScratch.StateWords, from);
                Fold<TValue>(acc, (2 * dims.ValueWidth) + d, o2, state, 2 * ValueScratch.StateWords, from);
                Fold<TValue>(acc, (3 * dims.ValueWidth) + d, o3, state, 3 * ValueScratch.StateWords, from);
            }
        }
    }

    // Only the first stage of a page scales the sums of earlier pages.
    private static void Fold<TValue>(ArrayView<float> acc, int at, float sum, ArrayView<float> state, int own, int from)
        where TValue : struct, IPortableCodec
    {
        bool isStaged = default(TValue).Scales == Scaling.Group || default(TValue).Scales == Scaling.Block;
        float alpha = isStaged && from > 0 ? 1f : state[own + 2];
        sum = PortableMath.IsWide<TValue>() ? 2f * Bounded(sum, PortableMath.AlmostLargest / 2f) : sum;
        float next = (acc[at] * alpha) + (sum * state[own + 3]);

        // A rounding must not take a mean beyond binary32.
        acc[at] = PortableMath.IsWide<TValue>() ? Bounded(next, PortableMath.AlmostLargest) : next;
    }

    // A finite number within the bound either way; an infinity as it is.
    private static float Bounded(float x, float most)
    {
        x = x > most && x < float.PositiveInfinity ? most : x;
        return x < -most && x > float.NegativeInfinity ? -most : x;
    }
}
