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
/// Attention of a block of query rows over one segment of pages of one class: online softmax in natural units
/// (FlashAttention-2, Dao 2023), split over pages (flash-decoding, Dao et al. 2023).
/// </summary>
/// <remarks>
/// A row is a (token, query head) of one KV head's group, token-major. Page tokens are spread over threads for logits,
/// value elements for the weighted sum, so that neither needs a sum across threads; sums over a page's tokens are taken by a tree.
/// <code>
/// shared   q[R][wK]  acc[R][wV]  scores[R][P]  largest[R][DimX]  sums[R][DimX]  state[R][4] = running max, running sum, alpha, beta
///          rows[R][5] (int)      = first entry, end entry, position, and of the page at hand: end of the tokens seen, first one seen
/// </code>
/// </remarks>
internal static class AttendKernel
{
    private const int StateWords = 4;
    private const int RangeWords = 5;

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int SharedFloats(int rows, int keyWidth, int valueWidth, int pageTokens, int threads) =>
        rows * (keyWidth + valueWidth + pageTokens + (2 * threads) + StateWords + RangeWords);

    /// <summary>
    /// One group per (block, head, segment): partials[item][segment][R][wV] (sums, not normalized) and
    /// partialStats[item][segment][R][2] = (max, sum); the last token's page statistics go to the tables.
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
        int tableRow = dims.Row(batch[owner], layer, head);

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> q = shared.SubView(0, rows * dims.KeyWidth);
        int at = rows * dims.KeyWidth;
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
        ArrayView<int> range = shared.SubView(at, rows * RangeWords).Cast<int>();

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

        LoadQueries(q, queries, rows, firstRow, batch[owner + 1], batch[owner + 2], head, tokenStride, headStride, scale, dims);
        for (int i = Group.IdxX; i < rows * dims.ValueWidth; i += Group.DimX)
        {
            acc[i] = 0f;
        }

        Group.Barrier();
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
                    if (range[own + 2] == length - 1 && entry >= range[own] && entry < range[own + 1])
                    {
                        WriteStatistic(arena, dims, tableRow, entry, firstRow + r, float.NegativeInfinity, 0f);
                    }
                }
            }
            else if (isOurs)
            {
                ArrayView<int> page = AppendKernel.Page(arena, arena[dims.Slots + (tableRow * dims.Capacity) + entry]);
                int seen = See(range, rows, entry, TableMap.PageIndexOf(tag) * dims.PageTokens, dims.PageTokens, window);
                Logits<TKey, TValue, TRows>(page, q, scores, range, seen, dims);
                Weigh<TKey, TValue>(page, scores, largest, sums, range, rows, seen, dims);
                for (int r = Group.IdxX; r < rows; r += Group.DimX)
                {
                    int end = range[(r * RangeWords) + 3];
                    Advance(state, r, largest[r * Group.DimX], sums[r * Group.DimX], range[(r * RangeWords) + 4] < end);
                    if (range[(r * RangeWords) + 2] == length - 1 && end > 0)
                    {
                        WriteStatistic(arena, dims, tableRow, entry, firstRow + r, largest[r * Group.DimX], sums[r * Group.DimX]);
                    }
                }

                Group.Barrier();
                Accumulate<TKey, TValue, TRows>(page, acc, scores, state, seen, dims);
                Group.Barrier();
            }
        }

        for (int r = Group.IdxX; r < rows; r += Group.DimX)
        {
            long stats = (((long)Grid.IdxX * rows) + r) * 2;
            partialStats[stats] = state[r * StateWords];
            partialStats[stats + 1] = state[(r * StateWords) + 1];
        }

        for (int i = Group.IdxX; i < rows * dims.ValueWidth; i += Group.DimX)
        {
            partials[((long)Grid.IdxX * rows * dims.ValueWidth) + i] = acc[i];
        }
    }

    private static void WriteStatistic(ArrayView<int> arena, KernelDims dims, int tableRow, int entry, int row, float largest, float sum)
    {
        int stats = dims.Stats + (2 * ((((tableRow * dims.Capacity) + entry) * dims.GroupSize) + (row % dims.GroupSize)));
        arena[stats] = (int)Interop.FloatAsInt(largest);
        arena[stats + 1] = (int)Interop.FloatAsInt(sum);
    }

    private static void LoadQueries(
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
        KernelDims dims)
    {
        for (int i = Group.IdxX; i < rows * dims.KeyWidth; i += Group.DimX)
        {
            int r = i / dims.KeyWidth;
            int token = (firstRow + r) / dims.GroupSize;
            int queryHead = (head * dims.GroupSize) + (firstRow + r - (token * dims.GroupSize));
            long vector = ((long)(firstToken + token) * tokenStride) + ((long)queryHead * headStride);
            q[i] = token < tokens ? queries[vector + i - (r * dims.KeyWidth)] * scale : 0f;
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

    // scores[r][t] = q[r] . k[t]; neighbours in t read neighbouring words.
    private static void Logits<TKey, TValue, TRows>(
        ArrayView<int> page, ArrayView<float> q, ArrayView<float> scores, ArrayView<int> range, int seen, KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
        where TRows : struct, IRowCount
    {
        int words = dims.KeyWidth / default(TKey).PerWord;
        int scales = (words + (dims.ValueWidth / default(TValue).PerWord)) * dims.PageTokens;
        for (int t = Group.IdxX; t < seen; t += Group.DimX)
        {
            float s0 = 0f;
            float s1 = 0f;
            float s2 = 0f;
            float s3 = 0f;
            for (int w = 0; w < words; w++)
            {
                int word = page[(w * dims.PageTokens) + t];
                for (int j = 0; j < default(TKey).PerWord; j++)
                {
                    float k = default(TKey).Decode(word, j);
                    int d = (w * default(TKey).PerWord) + j;
                    s0 += k * q[d];
                    if (default(TRows).Count > 1)
                    {
                        s1 += k * q[dims.KeyWidth + d];
                        s2 += k * q[(2 * dims.KeyWidth) + d];
                        s3 += k * q[(3 * dims.KeyWidth) + d];
                    }
                }
            }

            float scale = default(TKey).IsScaled ? TranscodeKernels.Scale(page, scales, t) : 1f;
            scores[t] = s0 * scale;
            if (default(TRows).Count > 1)
            {
                scores[dims.PageTokens + t] = s1 * scale;
                scores[(2 * dims.PageTokens) + t] = s2 * scale;
                scores[(3 * dims.PageTokens) + t] = s3 * scale;
            }
        }
    }

    // scores -> exp(score - the page's largest), times the value's scale; leaves each row's largest and sum. A thread reads only scores it wrote.
    private static void Weigh<TKey, TValue>(
        ArrayView<int> page,
        ArrayView<float> scores,
        ArrayView<float> largest,
        ArrayView<float> sums,
        ArrayView<int> range,
        int rows,
        int seen,
        KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
    {
        int words = (dims.KeyWidth / default(TKey).PerWord) + (dims.ValueWidth / default(TValue).PerWord);
        int scales = (words * dims.PageTokens) + (default(TKey).IsScaled ? (dims.PageTokens + 1) / 2 : 0);
        for (int r = 0; r < rows; r++)
        {
            float most = float.NegativeInfinity;
            int begin = range[(r * RangeWords) + 4];
            for (int t = Group.IdxX; t < range[(r * RangeWords) + 3]; t += Group.DimX)
            {
                float score = t >= begin ? scores[(r * dims.PageTokens) + t] : float.NegativeInfinity;
                most = score > most ? score : most;
            }

            largest[(r * Group.DimX) + Group.IdxX] = most;
        }

        SharedVector.Largest(largest, rows);
        for (int r = 0; r < rows; r++)
        {
            float most = largest[r * Group.DimX];
            float sum = 0f;
            for (int t = Group.IdxX; t < seen; t += Group.DimX)
            {
                bool isSeen = t >= range[(r * RangeWords) + 4] && t < range[(r * RangeWords) + 3];
                float p = isSeen ? PortableMath.Exp(scores[(r * dims.PageTokens) + t] - most) : 0f;
                sum += p;
                scores[(r * dims.PageTokens) + t] = default(TValue).IsScaled ? p * TranscodeKernels.Scale(page, scales, t) : p;
            }

            sums[(r * Group.DimX) + Group.IdxX] = sum;
        }

        SharedVector.Sum(sums, rows);
    }

    // Online softmax: what is there times alpha, the page times beta.
    private static void Advance(ArrayView<float> state, int r, float largest, float sum, bool isSeen)
    {
        int at = r * StateWords;
        float before = state[at];
        float after = largest > before ? largest : before;
        float alpha = before == float.NegativeInfinity ? 0f : PortableMath.Exp(before - after);
        float beta = isSeen ? PortableMath.Exp(largest - after) : 0f;
        state[at] = after;
        state[at + 1] = (state[at + 1] * alpha) + (sum * beta);
        state[at + 2] = alpha;
        state[at + 3] = beta;
    }

    // acc[r][d] = alpha acc[r][d] + beta sum_t scores[r][t] v[t][d]; a thread keeps to its own elements.
    private static void Accumulate<TKey, TValue, TRows>(
        ArrayView<int> page, ArrayView<float> acc, ArrayView<float> scores, ArrayView<float> state, int seen, KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
        where TRows : struct, IRowCount
    {
        int first = dims.KeyWidth / default(TKey).PerWord * dims.PageTokens;
        int words = dims.ValueWidth / default(TValue).PerWord;
        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            int w = d / default(TValue).PerWord;
            int j = d - (w * default(TValue).PerWord);
            float o0 = 0f;
            float o1 = 0f;
            float o2 = 0f;
            float o3 = 0f;
            for (int t = 0; t < seen; t++)
            {
                float v = default(TValue).Decode(page[first + (t * words) + w], j);
                o0 += v * scores[t];
                if (default(TRows).Count > 1)
                {
                    o1 += v * scores[dims.PageTokens + t];
                    o2 += v * scores[(2 * dims.PageTokens) + t];
                    o3 += v * scores[(3 * dims.PageTokens) + t];
                }
            }

            Fold(acc, d, o0, state, 0);
            if (default(TRows).Count > 1)
            {
                Fold(acc, dims.ValueWidth + d, o1, state, StateWords);
                Fold(acc, (2 * dims.ValueWidth) + d, o2, state, 2 * StateWords);
                Fold(acc, (3 * dims.ValueWidth) + d, o3, state, 3 * StateWords);
            }
        }
    }

    private static void Fold(ArrayView<float> acc, int at, float sum, ArrayView<float> state, int row) =>
        acc[at] = (acc[at] * state[row + 2]) + (sum * state[row + 3]);
}
