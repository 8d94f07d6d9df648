using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How many query rows a group takes; folded by the compiler.</summary>
internal interface IRowCount
{
    int Count { get; }
}

/// <summary>One row: batches that only decode, without shared KV heads.</summary>
internal readonly struct OneRow : IRowCount
{
    public int Count => 1;
}

/// <summary>Four rows: heads of a group and tokens of a prefill read each page once.</summary>
internal readonly struct FourRows : IRowCount
{
    public int Count => 4;
}

/// <summary>
/// Attention of a block of query rows over one segment of pages of one class: online softmax
/// (FlashAttention-2, Dao 2023), split over pages (flash-decoding, Dao et al. 2023).
/// </summary>
/// <remarks>
/// A row is a (token, query head) of one KV head's group, token-major. Page tokens are spread over threads for logits,
/// value elements for the weighted sum, so that neither needs a sum across threads; sums over a page's tokens are taken by a tree.
/// <code>
/// shared   q[R][wK]  acc[R][wV]  scores[R][P]  largest[R][DimX]  sums[R][DimX]  state[R][4] = running max, running sum, alpha, beta
///          exponents[R]          = of the powers of two that the queries were divided by
///          rows[R][5] (int)      = first entry, end entry, position, and of the page at hand: end of the tokens seen, first one seen
///          staged[planes][tokens] = scales of values with more than one each, for as many tokens as fit
///          levels[2][16]         = those of the key's and the value's codes
/// </code>
/// What scales a whole vector is taken out of the sum over its elements: a key's scale after it, a value's joins the token's weight. The mean
/// of T keys is taken out too: its product with each row comes once per page.
/// A row's query is divided by a power of two where it is so large that a sum of products could leave binary32; scores are raw until their
/// differences are taken, so that logits beyond binary32 still have their order.
/// </remarks>
internal static partial class AttendKernel
{
    /// <summary>Floats that a partial result's statistics take: largest raw logit, sum, exponent of the row's query.</summary>
    public const int PartialWords = 3;

    private const int StateWords = 4;
    private const int RangeWords = 5;

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int SharedFloats(int rows, KvGeometry geometry, PageDims page, int threads) =>
        (rows * (page.KeyStride + geometry.ValueWidth + geometry.PageTokens + (2 * threads) + StateWords + 1 + RangeWords))
        + (2 * LevelTable.Size) + (page.StagedPlanes * page.StagedTokens);

    /// <summary>
    /// One group per (block, head, segment): partials[item][segment][R][wV] (sums, not normalized) and
    /// partialStats[item][segment][R][3] = (max, sum, exponent); the last token's page statistics go to the tables.
    /// </summary>
    public static void Split<TKey, TValue, TRows>(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<float> queries,
        ArrayView<float> partials,
        ArrayView<float> partialStats,
        int layer,
        int classMask,
        int firstBlock,
        int segments,
        int tokenStride,
        int headStride,
        float scale,
        int window,
        PageDims map,
        KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
        where TRows : struct, IRowCount
    {
        int rows = default(TRows).Count;
        int item = Grid.IdxX / segments;
        int segment = Grid.IdxX - (item * segments);
        int block = KernelDims.Blocks + ((firstBlock + (item / dims.KvHeads)) * 2);
        int head = item % dims.KvHeads;
        int firstRow = batch[block + 1];
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        int length = batch[owner + 3];
        int measured = batch[owner + 4];
        int tableRow = dims.Row(batch[owner], layer, head);

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> q = shared.SubView(0, rows * map.KeyStride);
        int at = rows * map.KeyStride;
        ArrayView<float> acc = shared.SubView(at, rows * dims.ValueWidth);
        at += rows * dims.ValueWidth;
        ArrayView<float> scores = shared.SubView(at, rows * dims.PageTokens);
        at += rows * dims.PageTokens;
        ArrayView<float> largest = shared.SubView(at, rows * Group.DimX);
        at += rows * Group.DimX;
        ArrayView<float> sums = shared.SubView(at, rows * Group.DimX);
        at += rows * Group.DimX;
        ArrayView<float> state = shared.SubView(at, rows * StateWords);
        at += rows * StateWords;
        ArrayView<float> exponents = shared.SubView(at, rows);
        at += rows;
        ArrayView<int> range = shared.SubView(at, rows * RangeWords).Cast<int>();
        at += rows * RangeWords;
        ArrayView<float> staged = shared.SubView(at, map.StagedPlanes * map.StagedTokens);
        at += map.StagedPlanes * map.StagedTokens;
        ArrayView<float> keyLevels = shared.SubView(at, LevelTable.Size);
        ArrayView<float> valueLevels = shared.SubView(at + LevelTable.Size, LevelTable.Size);
        if (default(TKey).LevelBits > 0)
        {
            LevelTable.Fill(keyLevels, default(TKey).LevelBits);
        }

        if (default(TValue).LevelBits > 0)
        {
            LevelTable.Fill(valueLevels, default(TValue).LevelBits);
        }

        for (int r = Group.IdxX; r < rows; r += Group.DimX)
        {
            int token = (firstRow + r) / dims.GroupSize;
            int position = length - batch[owner + 2] + token;
            int visible = arena[tableRow] - (((length - 1) / dims.PageTokens) - (position / dims.PageTokens));
            int pages = Segments.Pages(visible, dims.SegmentPages);
            int end = (segment + 1) * pages < visible ? (segment + 1) * pages : visible;
            bool isRow = token < batch[owner + 2] && segment * pages < visible;
            range[(r * RangeWords) + 0] = isRow ? segment * pages : int.MaxValue;
            range[(r * RangeWords) + 1] = isRow ? end : 0;
            range[(r * RangeWords) + 2] = position;
            state[(r * StateWords) + 0] = float.NegativeInfinity;
            state[(r * StateWords) + 1] = 0f;
        }

        LoadQueries(q, queries, rows, firstRow, batch[owner + 1], batch[owner + 2], head, tokenStride, headStride, scale, map.KeyStride, dims);
        for (int i = Group.IdxX; i < rows * dims.ValueWidth; i += Group.DimX)
        {
            acc[i] = 0f;
        }

        Group.Barrier();
        SharedVector.Normalize(q, largest, exponents, rows, map.KeyStride, dims.KeyRefusedFrom);
        int first = int.MaxValue;
        int last = 0;
        for (int r = 0; r < rows; r++)
        {
            first = range[r * RangeWords] < first ? range[r * RangeWords] : first;
            last = range[(r * RangeWords) + 1] > last ? range[(r * RangeWords) + 1] : last;
        }

        for (int entry = first; entry < last; entry++)
        {
            int tag = arena[dims.Tags + (tableRow * dims.Capacity) + entry];
            bool isOurs = ((classMask >> TableMap.ClassOf(tag)) & 1) != 0;

            // The block's first row looks back the farthest: a page before its window is not read.
            if (isOurs && (TableMap.PageIndexOf(tag) + 1) * dims.PageTokens <= range[2] + 1 - window)
            {
                for (int r = Group.IdxX; r < rows; r += Group.DimX)
                {
                    int own = r * RangeWords;
                    if (range[own + 2] == measured && entry >= range[own] && entry < range[own + 1])
                    {
                        WriteStatistic(arena, dims, tableRow, TableMap.PageIndexOf(tag), firstRow + r, float.NegativeInfinity, 0f);
                    }
                }
            }
            else if (isOurs)
            {
                ArrayView<int> page = AppendKernel.Page(arena, arena[dims.Slots + (tableRow * dims.Capacity) + entry]);
                int seen = See(range, rows, entry, TableMap.PageIndexOf(tag) * dims.PageTokens, dims.PageTokens, window);
                if (default(TKey).Scales == Scaling.Gain)
                {
                    ProjectMean<TRows>(page, q, sums, map, dims.KeyWidth);
                }

                Logits<TKey, TRows>(page, q, scores, sums, keyLevels, seen, map, dims.PageTokens);
                Weigh<TValue>(page, scores, largest, sums, range, exponents, rows, seen, map.ValueScales, dims.PageTokens);
                for (int r = Group.IdxX; r < rows; r += Group.DimX)
                {
                    int end = range[(r * RangeWords) + 3];
                    Advance<TValue>(state, exponents[r], r, largest[r * Group.DimX], sums[r * Group.DimX], range[(r * RangeWords) + 4] < end);
                    if (range[(r * RangeWords) + 2] == measured && end > 0)
                    {
                        float most = PortableMath.LogitOf(largest[r * Group.DimX], exponents[r]);
                        WriteStatistic(arena, dims, tableRow, TableMap.PageIndexOf(tag), firstRow + r, most, sums[r * Group.DimX]);
                    }
                }

                Group.Barrier();
                if (default(TValue).Scales == Scaling.Group || default(TValue).Scales == Scaling.Block)
                {
                    for (int t = 0; t < seen; t += map.StagedTokens)
                    {
                        int next = t + map.StagedTokens < seen ? t + map.StagedTokens : seen;
                        Stage(page, staged, map, t, next);
                        Accumulate<TValue, TRows>(page, acc, scores, state, valueLevels, staged, t, next, map, dims);
                    }
                }
                else
                {
                    Accumulate<TValue, TRows>(page, acc, scores, state, valueLevels, staged, 0, seen, map, dims);
                }

                Group.Barrier();
            }
        }

        for (int r = Group.IdxX; r < rows; r += Group.DimX)
        {
            long stats = (((long)Grid.IdxX * rows) + r) * PartialWords;
            partialStats[stats] = state[r * StateWords];
            partialStats[stats + 1] = state[(r * StateWords) + 1];
            partialStats[stats + 2] = exponents[r];
        }

        for (int i = Group.IdxX; i < rows * dims.ValueWidth; i += Group.DimX)
        {
            float sum = state[(i / dims.ValueWidth * StateWords) + 1];
            bool isMean = PortableMath.IsWide<TValue>() || sum == 0f;
            partials[((long)Grid.IdxX * rows * dims.ValueWidth) + i] = isMean ? acc[i] : acc[i] / sum;
        }
    }

    private static void WriteStatistic(ArrayView<int> arena, KernelDims dims, int tableRow, int page, int row, float largest, float sum)
    {
        int stats = dims.Stats + (2 * ((((tableRow * dims.Capacity) + page) * dims.GroupSize) + (row % dims.GroupSize)));
        arena[stats] = (int)Interop.FloatAsInt(largest);
        arena[stats + 1] = (int)Interop.FloatAsInt(sum);
    }

    internal static void LoadQueries(
        ArrayView<float> q,
        ArrayView<float> queries,
        int rows,
        int firstRow,
        int firstToken,
        int tokens,
        int head,
        int tokenStride,
        int headStride,
        float scale,
        int stride,
        KernelDims dims)
    {
        for (int i = Group.IdxX; i < rows * stride; i += Group.DimX)
        {
            int r = i / stride;
            int d = i - (r * stride);
            int token = (firstRow + r) / dims.GroupSize;
            int queryHead = (head * dims.GroupSize) + (firstRow + r - (token * dims.GroupSize));
            long vector = ((long)(firstToken + token) * tokenStride) + ((long)queryHead * headStride);
            q[i] = token < tokens && d < dims.KeyWidth ? queries[vector + d] * scale : 0f;
        }
    }

    // Which of the page's tokens each row sees; returns where the last row's end.
    private static int See(ArrayView<int> range, int rows, int entry, int firstPosition, int pageTokens, int window)
    {
        for (int r = Group.IdxX; r < rows; r += Group.DimX)
        {
            int end = range[(r * RangeWords) + 2] - firstPosition + 1;
            int begin = end > window ? end - window : 0;
            end = end > pageTokens ? pageTokens : end;
            end = end < 0 ? 0 : end;
            bool isInside = entry >= range[r * RangeWords] && entry < range[(r * RangeWords) + 1];
            range[(r * RangeWords) + 3] = isInside ? end : 0;
            range[(r * RangeWords) + 4] = begin;
        }

        Group.Barrier();
        int seen = 0;
        for (int r = 0; r < rows; r++)
        {
            seen = range[(r * RangeWords) + 3] > seen ? range[(r * RangeWords) + 3] : seen;
        }

        return seen;
    }
}
