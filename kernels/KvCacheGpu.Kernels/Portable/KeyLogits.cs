using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>A block of queries times the keys of one page.</summary>
internal static class KeyLogits
{
    /// <summary>sums[r * DimX] = q[r] . mean of the page's keys. Formats that are centered need it before <see cref="Compute{TKey, TQueries}"/>.</summary>
    public static void ProjectMean<TQueries>(ArrayView<int> page, QueryScratch s, PageDims map, int width)
        where TQueries : struct, IQueryCount
    {
        ArrayView<float> q = s.Q;
        ArrayView<float> sums = s.Sums;
        float s0 = 0f;
        float s1 = 0f;
        float s2 = 0f;
        float s3 = 0f;
        for (int d = Group.IdxX; d < width; d += Group.DimX)
        {
            float mean = Chunk.Half(page, map.Mean, d);
            s0 += mean * q[d];
            if (default(TQueries).Count > 1)
            {
                s1 += mean * q[map.KeyStride + d];
                s2 += mean * q[(2 * map.KeyStride) + d];
                s3 += mean * q[(3 * map.KeyStride) + d];
            }
        }

        sums[Group.IdxX] = s0;
        if (default(TQueries).Count > 1)
        {
            sums[Group.DimX + Group.IdxX] = s1;
            sums[(2 * Group.DimX) + Group.IdxX] = s2;
            sums[(3 * Group.DimX) + Group.IdxX] = s3;
        }

        SharedVector.Sum(sums, default(TQueries).Count);
    }

    /// <summary>scores = cap * tanh(logit / cap) of the page's first <paramref name="seen"/> tokens. A thread caps only scores that it wrote itself.</summary>
    public static void Cap(QueryScratch s, int seen, int pageTokens, float cap)
    {
        ArrayView<float> scores = s.Scores;
        for (int r = 0; r < s.Count; r++)
        {
            float exponent = s.Exponents[s.Count + r];
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                scores[(r * pageTokens) + t] = PortableMath.Capped(PortableMath.Scaled(scores[(r * pageTokens) + t], exponent), cap);
            }
        }
    }

    /// <summary>scores[r][t] = q[r] . k[t] for the page's first <paramref name="seen"/> tokens; neighbours in t read neighbouring words.</summary>
    public static void Compute<TKey, TQueries>(ArrayView<int> page, QueryScratch s, int seen, PageDims map, int pageTokens)
        where TKey : struct, IPortableCodec
        where TQueries : struct, IQueryCount
    {
        ArrayView<float> q = s.Q;
        ArrayView<float> scores = s.Scores;
        ArrayView<float> means = s.Sums;
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
                    float k = default(TKey).Decode(default(TKey).LowWord(j) == 0 ? word0 : word1, word2, j, s.Levels);
                    k = default(TKey).Scales == Scaling.Block ? k * scale : k;
                    int d = Chunk.Element<TKey>(c, j);
                    s0 += k * q[d];
                    if (default(TQueries).Count > 1)
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
                if (default(TQueries).Count > 1)
                {
                    s1 = scale * ((gain * s1) + means[Group.DimX]);
                    s2 = scale * ((gain * s2) + means[2 * Group.DimX]);
                    s3 = scale * ((gain * s3) + means[3 * Group.DimX]);
                }
            }

            scores[t] = s0;
            if (default(TQueries).Count > 1)
            {
                scores[pageTokens + t] = s1;
                scores[(2 * pageTokens) + t] = s2;
                scores[(3 * pageTokens) + t] = s3;
            }
        }
    }
}
