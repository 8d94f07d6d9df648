using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>What the last queries of each sequence attended to, by page: logits against their log-sum-exps, no values.</summary>
internal static class ObserveKernel
{
    private const int Rows = 4;

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs: q[R][wK], scores[R][P], sums[R][DimX], levels[16], exponents[R].</summary>
    public static int SharedFloats(KvGeometry geometry, PageDims page, int threads) =>
        (Rows * (page.KeyStride + geometry.PageTokens + threads + 1)) + LevelTable.Size;

    /// <summary>One group per (sequence, head, entry): only it adds to its page's window score.</summary>
    public static void Observe<TKey>(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<float> queries,
        ArrayView<float> logSumExp,
        int layer,
        int classMask,
        int entries,
        int last,
        int tokenStride,
        int headStride,
        float scale,
        int window,
        PageDims map,
        KernelDims dims)
        where TKey : struct, IPortableCodec
    {
        int item = Grid.IdxX / entries;
        int entry = Grid.IdxX - (item * entries);
        int head = item % dims.KvHeads;
        int owner = dims.Sequences + (item / dims.KvHeads * KernelDims.SequenceWords);
        int tableRow = dims.Row(batch[owner], layer, head);
        if (entry >= arena[tableRow])
        {
            return;
        }

        int tag = arena[dims.Tags + (tableRow * dims.Capacity) + entry];
        if (((classMask >> TableMap.ClassOf(tag)) & 1) == 0)
        {
            return;
        }

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> q = shared.SubView(0, Rows * map.KeyStride);
        ArrayView<float> scores = shared.SubView(Rows * map.KeyStride, Rows * dims.PageTokens);
        ArrayView<float> sums = shared.SubView(Rows * (map.KeyStride + dims.PageTokens), Rows * Group.DimX);
        ArrayView<float> levels = shared.SubView(Rows * (map.KeyStride + dims.PageTokens + Group.DimX), LevelTable.Size);
        ArrayView<float> exponents = shared.SubView((Rows * (map.KeyStride + dims.PageTokens + Group.DimX)) + LevelTable.Size, Rows);
        if (default(TKey).LevelBits > 0)
        {
            LevelTable.Fill(levels, default(TKey).LevelBits);
        }

        ArrayView<int> page = AppendKernel.Page(arena, arena[dims.Slots + (tableRow * dims.Capacity) + entry]);
        int tokens = batch[owner + 2];
        int firstToken = tokens > last ? tokens - last : 0;

        // Position of the sequence's first token in this step, from the page's first.
        int offset = batch[owner + 3] - tokens - (TableMap.PageIndexOf(tag) * dims.PageTokens);
        float mass = 0f;
        for (int row = firstToken * dims.GroupSize; row < tokens * dims.GroupSize; row += Rows)
        {
            AttendKernel.LoadQueries(q, queries, Rows, row, batch[owner + 1], tokens, head, tokenStride, headStride, scale, map.KeyStride, dims);
            Group.Barrier();
            SharedVector.Normalize(q, sums, exponents, Rows, map.KeyStride, dims.KeyRefusedFrom);
            if (default(TKey).Scales == Scaling.Gain)
            {
                AttendKernel.ProjectMean<FourRows>(page, q, sums, map, dims.KeyWidth);
            }

            int seen = offset + ((row + Rows - 1) / dims.GroupSize) + 1;
            seen = seen > dims.PageTokens ? dims.PageTokens : seen;
            AttendKernel.Logits<TKey, FourRows>(page, q, scores, sums, levels, seen, map, dims.PageTokens);
            Group.Barrier();
            for (int r = 0; r < Rows; r++)
            {
                int token = (row + r) / dims.GroupSize;
                if (token < tokens)
                {
                    int member = row + r - (token * dims.GroupSize);
                    float lse = logSumExp[((batch[owner + 1] + token) * dims.KvHeads * dims.GroupSize) + (head * dims.GroupSize) + member];
                    int end = offset + token + 1;
                    int first = end > window ? end - window : 0;
                    end = end > dims.PageTokens ? dims.PageTokens : end;
                    for (int t = Group.IdxX; t < end; t += Group.DimX)
                    {
                        mass += t < first ? 0f : PortableMath.Exp(PortableMath.LogitOf(scores[(r * dims.PageTokens) + t], exponents[r]) - lse);
                    }
                }
            }

            Group.Barrier();
        }

        sums[Group.IdxX] = mass;
        SharedVector.Sum(sums, 1);
        if (Group.IdxX == 0)
        {
            int word = dims.Scores + (((tableRow * dims.Capacity) + TableMap.PageIndexOf(tag)) * TableMap.ScoreWords) + TableMap.ScoreWindow;
            arena[word] = (int)Interop.FloatAsInt(Interop.IntAsFloat((uint)arena[word]) + (sums[0] / dims.GroupSize));
        }
    }
}
