using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Parameters of one launch of <see cref="ObserveKernel"/>, passed by value.</summary>
/// <param name="layer">The layer's queries and pages.</param>
/// <param name="entries">Entries of each table row that the launch covers.</param>
/// <param name="last">Tokens of each sequence that count, from its last back.</param>
internal readonly struct ObserveDims(LayerDims layer, int entries, int last)
{
    public readonly LayerDims Layer = layer;
    public readonly int Entries = entries;
    public readonly int Last = last;
}

/// <summary>
/// Says if a launch caps its logits; folded by the compiler. Only <see cref="ObserveKernel"/> asks for it: a cap takes it beyond 32 registers.
/// </summary>
internal interface ILogitCap
{
    bool IsOn { get; }
}

/// <summary>Logits stay as they are.</summary>
internal readonly struct NoLogitCap : ILogitCap
{
    public bool IsOn => false;
}

/// <summary>Logits are capped.</summary>
internal readonly struct SoftLogitCap : ILogitCap
{
    public bool IsOn => true;
}

/// <summary>The attention that the last queries of each sequence paid to each page: logits against their log-sum-exps, no values.</summary>
internal static class ObserveKernel
{
    private const int Queries = 4;

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int SharedFloats(KvGeometry geometry, PageDims page, int threads) =>
        QueryScratch.Floats(Queries, page, geometry.PageTokens, threads);

    /// <summary>One group per (sequence, head, entry): only it adds to its page's window score.</summary>
    public static void Observe<TKey, TCap>(
        ArrayView<int> arena, ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> logSumExp, ObserveDims call, KernelDims dims)
        where TKey : struct, IPortableCodec
        where TCap : struct, ILogitCap
    {
        PageDims map = call.Layer.Page;
        int item = Grid.IdxX / call.Entries;
        int entry = Grid.IdxX - (item * call.Entries);
        int head = item % dims.KvHeads;
        int owner = dims.Sequences + (item / dims.KvHeads * KernelDims.SequenceWords);
        if (entry >= arena[dims.CountWord(batch[owner], call.Layer.Layer, head)])
        {
            return;
        }

        ArrayView<int> leaf = dims.Leaf(arena, batch[owner], entry);
        int place = dims.InLeaf(call.Layer.Layer, head, entry);
        int tag = leaf[dims.LeafTags + place];
        if (((call.Layer.Classes >> TableMap.ClassOf(tag)) & 1) == 0)
        {
            return;
        }

        var s = new QueryScratch(SharedMemory.GetDynamic<float>(), Queries, map, dims.PageTokens);
        s.Fill<TKey>();
        ArrayView<int> page = AppendKernel.Page(arena, leaf[place]);
        int tokens = batch[owner + 2];
        int firstToken = tokens > call.Last ? tokens - call.Last : 0;

        // Position of the sequence's first token in this step, from the page's first.
        int offset = batch[owner + 3] - tokens - (TableMap.PageIndexOf(tag) * dims.PageTokens);
        float mass = 0f;
        for (int query = firstToken * dims.GroupSize; query < tokens * dims.GroupSize; query += Queries)
        {
            s.Load<TKey>(queries, batch[owner + 1], tokens, head, query, call.Layer, dims);
            Group.Barrier();
            SharedVector.Normalize(s.Q, s.Sums, s.Exponents, Queries, map.KeyStride, dims.KeyRefusedFrom, call.Layer.Logits);
            if (default(TKey).Scales == Scaling.Gain)
            {
                KeyLogits.ProjectMean<FourQueries>(page, s, map, dims.KeyWidth);
            }

            int seen = offset + ((query + Queries - 1) / dims.GroupSize) + 1;
            seen = seen > dims.PageTokens ? dims.PageTokens : seen;
            KeyLogits.Compute<TKey, FourQueries>(page, s, seen, map, dims.PageTokens);
            if (default(TCap).IsOn)
            {
                KeyLogits.Cap(s, seen, dims.PageTokens, call.Layer.Logits.Cap);
            }

            Group.Barrier();
            for (int r = 0; r < Queries; r++)
            {
                int token = (query + r) / dims.GroupSize;
                if (token < tokens)
                {
                    int member = query + r - (token * dims.GroupSize);
                    float lse = logSumExp[((batch[owner + 1] + token) * dims.KvHeads * dims.GroupSize) + (head * dims.GroupSize) + member];
                    int end = offset + token + 1;
                    int first = end > call.Layer.Window ? end - call.Layer.Window : 0;
                    end = end > dims.PageTokens ? dims.PageTokens : end;
                    for (int t = Group.IdxX; t < end; t += Group.DimX)
                    {
                        mass += t < first ? 0f : PortableMath.Exp(PortableMath.LogitOf(s.Scores[(r * dims.PageTokens) + t], s.Exponents[r]) - lse);
                    }
                }
            }

            Group.Barrier();
        }

        s.Sums[Group.IdxX] = mass;
        SharedVector.Sum(s.Sums, 1);
        if (Group.IdxX == 0)
        {
            int pageIndex = TableMap.PageIndexOf(tag);
            int word = dims.LeafScores + (dims.InLeaf(call.Layer.Layer, head, pageIndex) * TableMap.ScoreWords) + TableMap.ScoreWindow;
            ArrayView<int> scores = dims.Leaf(arena, batch[owner], pageIndex).SubView(word, 1);
            scores[0] = (int)Interop.FloatAsInt(Interop.IntAsFloat((uint)scores[0]) + (s.Sums[0] / dims.GroupSize));
        }
    }
}
