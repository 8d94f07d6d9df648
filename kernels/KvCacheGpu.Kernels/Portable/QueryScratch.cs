using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How many queries a group takes at once; folded by the compiler. A query is one (token, query head).</summary>
internal interface IQueryCount
{
    int Count { get; }
}

/// <summary>One query: batches that only decode, without shared KV heads.</summary>
internal readonly struct OneQuery : IQueryCount
{
    public int Count => 1;
}

/// <summary>Four queries: heads of a group and tokens of a prefill read each page once.</summary>
internal readonly struct FourQueries : IQueryCount
{
    public int Count => 4;
}

/// <summary>
/// The shared memory in which a group multiplies a block of queries by the keys of a page.
/// <code>
/// q[R][wK]  scores[R][P]  sums[R][DimX]  levels[16] of the keys' codes
/// exponents[2][R] = of the powers of two that make raw logits whole: of those that the softmax takes, then of those before a cap
/// </code>
/// </summary>
internal readonly struct QueryScratch
{
    /// <summary>Queries of the block, R.</summary>
    public readonly int Count;

    public readonly ArrayView<float> Q;
    public readonly ArrayView<float> Scores;
    public readonly ArrayView<float> Sums;
    public readonly ArrayView<float> Levels;
    public readonly ArrayView<float> Exponents;

    public QueryScratch(ArrayView<float> shared, int count, PageDims page, int pageTokens)
    {
        // Offsets as products, not as a running sum: that took up to eight registers more.
        Count = count;
        Q = shared.SubView(0, count * page.KeyStride);
        Scores = shared.SubView(count * page.KeyStride, count * pageTokens);
        Sums = shared.SubView(count * (page.KeyStride + pageTokens), count * Group.DimX);
        Levels = shared.SubView(count * (page.KeyStride + pageTokens + Group.DimX), LevelTable.Size);
        Exponents = shared.SubView((count * (page.KeyStride + pageTokens + Group.DimX)) + LevelTable.Size, 2 * count);
    }

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int Floats(int count, PageDims page, int pageTokens, int threads) =>
        (count * (page.KeyStride + pageTokens + threads + 2)) + LevelTable.Size;

    /// <summary>The keys' level table. The caller synchronises.</summary>
    public void Fill<TKey>()
        where TKey : struct, IPortableCodec
    {
        if (default(TKey).LevelBits > 0)
        {
            LevelTable.Fill(Levels, default(TKey).LevelBits);
        }
    }

    /// <summary>
    /// q = queries <paramref name="first"/> and on of one sequence and KV head, scaled; zeros where the sequence has no more. The caller synchronises.
    /// </summary>
    /// <param name="queries">The launch's queries.</param>
    /// <param name="firstToken">The sequence's first token in the launch.</param>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="head">KV head.</param>
    /// <param name="first">First query of the block: token * group size + member of the group.</param>
    /// <param name="layer">How the queries lie.</param>
    /// <param name="dims">The batch's dimensions.</param>
    public void Load<TKey>(ArrayView<ushort> queries, int firstToken, int tokens, int head, int first, LayerDims layer, KernelDims dims)
        where TKey : struct, IPortableCodec
    {
        // Queries in the rotated basis are the tier's own.
        int type = default(TKey).IsRotated ? (int)TensorType.F32 : layer.Queries.Type;
        int stride = layer.Page.KeyStride;
        for (int i = Group.IdxX; i < Count * stride; i += Group.DimX)
        {
            int r = i / stride;
            int d = i - (r * stride);
            int token = (first + r) / dims.GroupSize;
            int queryHead = (head * dims.GroupSize) + (first + r - (token * dims.GroupSize));
            long vector = layer.Queries.At(firstToken + token, queryHead);
            Q[i] = token < tokens && d < dims.KeyWidth ? TypedElements.Load(queries, vector + d, type) * layer.Logits.Scale : 0f;
        }
    }
}
