using ILGPU;

namespace KvCacheGpu.Kernels;

/// <content>What a group does with one page: logits, their softmax, and the weighted values.</content>
internal static partial class AttendKernel
{
    // sums[r * DimX] = q[r] . mean, where Weigh needs the room only after the logits are through.
    internal static void ProjectMean<TRows>(ArrayView<int> page, ArrayView<float> q, ArrayView<float> sums, PageDims map, int width)
        where TRows : struct, IRowCount
    {
        float s0 = 0f;
        float s1 = 0f;
        float s2 = 0f;
        float s3 = 0f;
        for (int d = Group.IdxX; d < width; d += Group.DimX)
        {
            float mean = Chunk.Half(page, map.Mean, d);
            s0 += mean * q[d];
            if (default(TRows).Count > 1)
            {
                s1 += mean * q[map.KeyStride + d];
                s2 += mean * q[(2 * map.KeyStride) + d];
                s3 += mean * q[(3 * map.KeyStride) + d];
            }
        }

        sums[Group.IdxX] = s0;
        if (default(TRows).Count > 1)
        {
            sums[Group.DimX + Group.IdxX] = s1;
            sums[(2 * Group.DimX) + Group.IdxX] = s2;
            sums[(3 * Group.DimX) + Group.IdxX] = s3;
        }

        SharedVector.Sum(sums, default(TRows).Count);
    }

    // scores[r][t] = q[r] . k[t]; neighbours in t read neighbouring words.
    internal static void Logits<TKey, TRows>(
        ArrayView<int> page,
        ArrayView<float> q,
        ArrayView<float> scores,
        ArrayView<float> means,
        ArrayView<float> levels,
        int seen,
        PageDims map,
        int pageTokens)
        where TKey : struct, IPortableCodec
        where TRows : struct, IRowCount
    {
        int chunks = map.KeyStride / default(TKey).ElementsPerChunk;
        for (int t = Group.IdxX; t < seen; t += Group.DimX)
        {
            float s0 = 0f;
            float s1 = 0f;
            float s2 = 0f;
            float s3 = 0f;
            float scale = 1f;
            for (int c = 0; c < chunks; c++)
            {
                int first = (c * default(TKey).WordsPerChunk * pageTokens) + t;
                int word0 = page[first];
                int word1 = default(TKey).WordsPerChunk > 1 ? page[first + pageTokens] : 0;
                int word2 = default(TKey).WordsPerChunk > 2 ? page[first + (2 * pageTokens)] : 0;
                if (default(TKey).Scales == Scaling.Block && c % (32 / default(TKey).ElementsPerChunk) == 0)
                {
                    scale = Chunk.Half(page, map.KeyScales + (c / (32 / default(TKey).ElementsPerChunk) * map.PlaneWords), t);
                }

                for (int j = 0; j < default(TKey).ElementsPerChunk; j++)
                {
                    float k = default(TKey).Decode(default(TKey).LowWord(j) == 0 ? word0 : word1, word2, j, levels);
                    k = default(TKey).Scales == Scaling.Block ? k * scale : k;
                    int d = Chunk.Element<TKey>(c, j);
                    s0 += k * q[d];
                    if (default(TRows).Count > 1)
                    {
                        s1 += k * q[map.KeyStride + d];
                        s2 += k * q[(2 * map.KeyStride) + d];
                        s3 += k * q[(3 * map.KeyStride) + d];
                    }
                }
            }

            if (default(TKey).Scales == Scaling.Vector)
            {
                scale = Chunk.Half(page, map.KeyScales, t);
                s0 *= scale;
                s1 *= scale;
                s2 *= scale;
                s3 *= scale;
            }

            if (default(TKey).Scales == Scaling.Gain)
            {
                scale = Chunk.Half(page, map.KeyScales, t);
                float gain = Chunk.Half(page, map.KeyScales + map.PlaneWords, t);
                s0 = scale * ((gain * s0) + means[0]);
                if (default(TRows).Count > 1)
                {
                    s1 = scale * ((gain * s1) + means[Group.DimX]);
                    s2 = scale * ((gain * s2) + means[2 * Group.DimX]);
                    s3 = scale * ((gain * s3) + means[3 * Group.DimX]);
                }
            }

            scores[t] = s0;
            if (default(TRows).Count > 1)
            {
                scores[pageTokens + t] = s1;
                scores[(2 * pageTokens) + t] = s2;
                scores[(3 * pageTokens) + t] = s3;
            }
        }
    }

    // scores -> exp(score - the page's largest), times the value's scale; leaves each row's largest and sum. A thread reads only scores it wrote.
    private static void Weigh<TValue>(
        ArrayView<int> page,
        ArrayView<float> scores,
        ArrayView<float> largest,
        ArrayView<float> sums,
        ArrayView<int> range,
        ArrayView<float> exponents,
        int rows,
        int seen,
        int scales,
        int pageTokens)
        where TValue : struct, IPortableCodec
    {
        for (int r = 0; r < rows; r++)
        {
            float most = float.NegativeInfinity;
            int begin = range[(r * RangeWords) + 4];
            for (int t = Group.IdxX; t < range[(r * RangeWords) + 3]; t += Group.DimX)
            {
                float score = t >= begin ? scores[(r * pageTokens) + t] : float.NegativeInfinity;
                most = score > most ? score : most;
            }

            largest[(r * Group.DimX) + Group.IdxX] = most;
        }

        SharedVector.Largest(largest, rows);
        for (int r = 0; r < rows; r++)
        {
            float most = largest[r * Group.DimX];
            float exponent = exponents[r];
            float sum = 0f;
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                bool isSeen = t >= range[(r * RangeWords) + 4] && t < range[(r * RangeWords) + 3];
                float p = isSeen ? PortableMath.Exp(PortableMath.Scaled(scores[(r * pageTokens) + t] - most, exponent)) : 0f;
                sum += p;
                scores[(r * pageTokens) + t] = default(TValue).Scales == Scaling.Vector ? p * Chunk.Half(page, scales, t) : p;
            }

            sums[(r * Group.DimX) + Group.IdxX] = sum;
        }

        SharedVector.Sum(sums, rows);
        for (int r = 0; PortableMath.IsWide<TValue>() && r < rows; r++)
        {
            // The sum of huge values may leave binary32; their mean does not, and rounding must not take it there.
            float sum = sums[r * Group.DimX] * PortableMath.RoundingRoom;
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                scores[(r * pageTokens) + t] = sum > 0f ? scores[(r * pageTokens) + t] / sum : 0f;
            }
        }
    }

    // Online softmax: what is there times alpha, the page times beta. Of huge values, means instead of sums.
    private static void Advance<TValue>(ArrayView<float> state, float exponent, int r, float largest, float sum, bool isSeen)
        where TValue : struct, IPortableCodec
    {
        int at = r * StateWords;
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

    // staged[plane][t - from] = the values' scales; what was there is not read any more.
    private static void Stage(ArrayView<int> page, ArrayView<float> staged, PageDims map, int from, int to)
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

    // acc[r][d] = alpha acc[r][d] + beta sum_t scores[r][t] v[t][d] over tokens from..to; a thread keeps to its own elements.
    private static void Accumulate<TValue, TRows>(
        ArrayView<int> page,
        ArrayView<float> acc,
        ArrayView<float> scores,
        ArrayView<float> state,
        ArrayView<float> levels,
        ArrayView<float> staged,
        int from,
        int to,
        PageDims map,
        KernelDims dims)
        where TValue : struct, IPortableCodec
        where TRows : struct, IRowCount
    {
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
                float v = default(TValue).Decode(low, high, j, levels);
                if (default(TValue).Scales == Scaling.Group)
                {
                    v = (staged[scale + t - from] * v) + staged[scale + map.StagedTokens + t - from];
                }

                if (default(TValue).Scales == Scaling.Block)
                {
                    v *= staged[scale + t - from];
                }

                o0 += v * scores[t];
                if (default(TRows).Count > 1)
                {
                    o1 += v * scores[dims.PageTokens + t];
                    o2 += v * scores[(2 * dims.PageTokens) + t];
                    o3 += v * scores[(3 * dims.PageTokens) + t];
                }
            }

            Fold<TValue>(acc, d, o0, state, 0, from);
            if (default(TRows).Count > 1)
            {
                Fold<TValue>(acc, dims.ValueWidth + d, o1, state, StateWords, from);
                Fold<TValue>(acc, (2 * dims.ValueWidth) + d, o2, state, 2 * StateWords, from);
                Fold<TValue>(acc, (3 * dims.ValueWidth) + d, o3, state, 3 * StateWords, from);
            }
        }
    }

    // Tokens behind a page's first stage find what was there scaled already.
    private static void Fold<TValue>(ArrayView<float> acc, int at, float sum, ArrayView<float> state, int row, int from)
        where TValue : struct, IPortableCodec
    {
        bool isStaged = default(TValue).Scales == Scaling.Group || default(TValue).Scales == Scaling.Block;
        float alpha = isStaged && from > 0 ? 1f : state[row + 2];
        float next = (acc[at] * alpha) + (sum * state[row + 3]);
        if (PortableMath.IsWide<TValue>())
        {
            // A rounding must not take a mean beyond binary32.
            next = next > PortableMath.AlmostLargest && next < float.PositiveInfinity ? PortableMath.AlmostLargest : next;
            next = next < -PortableMath.AlmostLargest && next > float.NegativeInfinity ? -PortableMath.AlmostLargest : next;
        }

        acc[at] = next;
    }
}
