using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Parameters of one launch of <see cref="AttendKernel"/>, passed by value.</summary>
/// <param name="layer">The layer's queries and pages.</param>
/// <param name="firstBlock">First block of queries of the wave.</param>
/// <param name="segments">Segments of each (block, head).</param>
/// <param name="items">(block, head, segment)s of the wave.</param>
internal readonly struct AttendDims(LayerDims layer, int firstBlock, int segments, int items)
{
    public readonly LayerDims Layer = layer;
    public readonly int FirstBlock = firstBlock;
    public readonly int Segments = segments;
    public readonly int Items = items;
}

/// <summary>
/// Attention of a block of queries over one segment of pages of one pair of formats: online softmax
/// (FlashAttention-2, Dao 2023), split over pages (flash-decoding, Dao et al. 2023).
/// </summary>
/// <remarks>
/// A query is a (token, query head) of one KV head's group, token-major. Page tokens are spread over threads for logits,
/// value elements for the weighted sum, so that neither needs a sum across threads; sums over a page's tokens are taken by a tree.
/// The scale of a whole vector is taken out of the sum over its elements: a key's scale is applied after the sum, a value's joins the token's
/// weight. The mean of T keys is taken out too: its product with each query comes once per page.
/// A query is divided by a power of two where it is so large that a sum of products could leave binary32; scores are raw until their
/// differences are taken, so that logits beyond binary32 still have their order.
/// </remarks>
internal static class AttendKernel
{
    /// <summary>Floats of a partial result's statistics: largest raw logit, sum, exponent of the query.</summary>
    public const int PartialWords = 3;

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int SharedFloats(int queries, KvGeometry geometry, PageDims page, int threads) =>
        QueryScratch.Floats(queries, page, geometry.PageTokens, threads) + ValueScratch.Floats(queries, page, geometry.ValueWidth, threads);

    /// <summary>
    /// One group per (block, head, segment): partials[item][segment][R][wV] (means of the values) and
    /// partialStats[item][segment][R][3] = (max, sum, exponent); the last token's page statistics go to the tables. A segment behind the last page leaves nothing.
    /// </summary>
    public static void Split<TKey, TValue, TQueries>(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<ushort> queries,
        ArrayView<float> partials,
        ArrayView<float> partialStats,
        AttendDims call,
        KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
        where TQueries : struct, IQueryCount
    {
        PageDims map = call.Layer.Page;
        int count = default(TQueries).Count;
        int item = Grid.IdxX / call.Segments;
        int segment = Grid.IdxX - (item * call.Segments);
        int block = KernelDims.Blocks + ((call.FirstBlock + (item / dims.KvHeads)) * 2);
        int head = item % dims.KvHeads;
        int firstQuery = batch[block + 1];
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        int length = batch[owner + 3];
        int measured = batch[owner + 4];
        int entries = arena[dims.CountWord(batch[owner], call.Layer.Layer, head)];
        if (IsEmpty(batch[owner + 2], length, entries, firstQuery, count, segment, dims))
        {
            return;
        }

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        var s = new QueryScratch(shared, count, map, dims.PageTokens);
        var v = new ValueScratch(shared, QueryScratch.Floats(count, map, dims.PageTokens, Group.DimX), count, map, dims.ValueWidth);
        s.Fill<TKey>();
        if (default(TValue).LevelBits > 0)
        {
            LevelTable.Fill(v.Levels, default(TValue).LevelBits);
        }

        for (int r = Group.IdxX; r < count; r += Group.DimX)
        {
            int token = (firstQuery + r) / dims.GroupSize;
            int position = length - batch[owner + 2] + token;
            int visible = entries - (((length - 1) / dims.PageTokens) - (position / dims.PageTokens));
            int pages = dims.PagesOfSegment(visible);
            int end = (segment + 1) * pages < visible ? (segment + 1) * pages : visible;
            bool isQuery = token < batch[owner + 2] && segment * pages < visible;
            v.Range[(r * ValueScratch.RangeWords) + 0] = isQuery ? segment * pages : int.MaxValue;
            v.Range[(r * ValueScratch.RangeWords) + 1] = isQuery ? end : 0;
            v.Range[(r * ValueScratch.RangeWords) + 2] = position;
            v.State[(r * ValueScratch.StateWords) + 0] = float.NegativeInfinity;
            v.State[(r * ValueScratch.StateWords) + 1] = 0f;
        }

        s.Load<TKey>(queries, batch[owner + 1], batch[owner + 2], head, firstQuery, call.Layer, dims);
        for (int i = Group.IdxX; i < count * dims.ValueWidth; i += Group.DimX)
        {
            v.Acc[i] = 0f;
        }

        Group.Barrier();
        SharedVector.Normalize(s.Q, v.Largest, s.Exponents, count, map.KeyStride, dims.KeyRefusedFrom, call.Layer.Logits);
        int first = int.MaxValue;
        int last = 0;
        for (int r = 0; r < count; r++)
        {
            first = v.Range[r * ValueScratch.RangeWords] < first ? v.Range[r * ValueScratch.RangeWords] : first;
            last = v.Range[(r * ValueScratch.RangeWords) + 1] > last ? v.Range[(r * ValueScratch.RangeWords) + 1] : last;
        }

        for (int entry = first; entry < last; entry++)
        {
            // Looked up for every page: a leaf that is kept from page to page takes registers, and with them a quarter of the groups that run at once.
            ArrayView<int> leaf = dims.Leaf(arena, batch[owner], entry);
            int place = dims.InLeaf(call.Layer.Layer, head, entry);
            int tag = leaf[dims.LeafTags + place];
            bool isOurs = ((call.Layer.Classes >> TableMap.ClassOf(tag)) & 1) != 0;

            // The block's first query looks back the farthest: a page before its window is not read.
            if (isOurs && (TableMap.PageIndexOf(tag) + 1) * dims.PageTokens <= v.Range[2] + 1 - call.Layer.Window)
            {
                for (int r = Group.IdxX; r < count; r += Group.DimX)
                {
                    int own = r * ValueScratch.RangeWords;
                    if (v.Range[own + 2] == measured && entry >= v.Range[own] && entry < v.Range[own + 1])
                    {
                        WriteStatistic(Statistics(arena, dims, batch[owner], call.Layer.Layer, head, tag), dims, firstQuery + r, float.NegativeInfinity, 0f);
                    }
                }
            }
            else if (isOurs)
            {
                ArrayView<int> page = AppendKernel.Page(arena, leaf[place]);
                int seen = See(v.Range, count, entry, TableMap.PageIndexOf(tag) * dims.PageTokens, dims.PageTokens, call.Layer.Window);
                if (default(TKey).Scales == Scaling.Gain)
                {
                    KeyLogits.ProjectMean<TQueries>(page, s, map, dims.KeyWidth);
                }

                KeyLogits.Compute<TKey, TQueries>(page, s, seen, map, dims.PageTokens);
                if (call.Layer.Logits.Cap != 0f)
                {
                    KeyLogits.Cap(s, seen, dims.PageTokens, call.Layer.Logits.Cap);
                }

                ValueSums.Weigh<TValue>(page, s, v, seen, map.ValueScales, dims.PageTokens);
                for (int r = Group.IdxX; r < count; r += Group.DimX)
                {
                    int end = v.Range[(r * ValueScratch.RangeWords) + 3];
                    bool isSeen = v.Range[(r * ValueScratch.RangeWords) + 4] < end;
                    ValueSums.Advance<TValue>(v.State, s.Exponents[r], r, v.Largest[r * Group.DimX], s.Sums[r * Group.DimX], isSeen);
                    if (v.Range[(r * ValueScratch.RangeWords) + 2] == measured && end > 0)
                    {
                        float most = PortableMath.LogitOf(v.Largest[r * Group.DimX], s.Exponents[r]);
                        ArrayView<int> statistics = Statistics(arena, dims, batch[owner], call.Layer.Layer, head, tag);
                        WriteStatistic(statistics, dims, firstQuery + r, most, s.Sums[r * Group.DimX]);
                    }
                }

                Group.Barrier();
                if (default(TValue).Scales == Scaling.Group || default(TValue).Scales == Scaling.Block)
                {
                    for (int t = 0; t < seen; t += map.StagedTokens)
                    {
                        int next = t + map.StagedTokens < seen ? t + map.StagedTokens : seen;
                        ValueSums.Stage(page, v.Staged, map, t, next);
                        ValueSums.Accumulate<TValue, TQueries>(page, s.Scores, v, t, next, map, dims);
                    }
                }
                else
                {
                    ValueSums.Accumulate<TValue, TQueries>(page, s.Scores, v, 0, seen, map, dims);
                }

                Group.Barrier();
            }
        }

        for (int r = Group.IdxX; r < count; r += Group.DimX)
        {
            long stats = (((long)Grid.IdxX * count) + r) * PartialWords;
            partialStats[stats] = v.State[r * ValueScratch.StateWords];
            partialStats[stats + 1] = v.State[(r * ValueScratch.StateWords) + 1];
            partialStats[stats + 2] = s.Exponents[r];
        }

        for (int i = Group.IdxX; i < count * dims.ValueWidth; i += Group.DimX)
        {
            float sum = v.State[(i / dims.ValueWidth * ValueScratch.StateWords) + 1];
            bool isMean = PortableMath.IsWide<TValue>() || sum == 0f;
            partials[((long)Grid.IdxX * count * dims.ValueWidth) + i] = isMean ? v.Acc[i] : v.Acc[i] / sum;
        }
    }

    // True if a segment lies behind the last page that each query of a block sees.
    private static bool IsEmpty(int tokens, int length, int entries, int firstQuery, int count, int segment, KernelDims dims)
    {
        bool isEmpty = true;
        for (int r = 0; r < count; r++)
        {
            int token = (firstQuery + r) / dims.GroupSize;
            int visible = entries - (((length - 1) / dims.PageTokens) - ((length - tokens + token) / dims.PageTokens));
            isEmpty &= token >= tokens || segment * dims.PagesOfSegment(visible) >= visible;
        }

        return isEmpty;
    }

    // The statistics of a page: two words for each query head of the group.
    private static ArrayView<int> Statistics(ArrayView<int> arena, KernelDims dims, int sequence, int layer, int head, int tag)
    {
        int page = TableMap.PageIndexOf(tag);
        int first = dims.LeafStats + (dims.InLeaf(layer, head, page) * dims.GroupSize * 2);
        return dims.Leaf(arena, sequence, page).SubView(first, dims.GroupSize * 2);
    }

    private static void WriteStatistic(ArrayView<int> statistics, KernelDims dims, int query, float largest, float sum)
    {
        int at = 2 * (query % dims.GroupSize);
        statistics[at] = (int)Interop.FloatAsInt(largest);
        statistics[at + 1] = (int)Interop.FloatAsInt(sum);
    }

    // Sets which of the page's tokens each query sees; returns where the last query's end.
    private static int See(ArrayView<int> range, int count, int entry, int firstPosition, int pageTokens, int window)
    {
        for (int r = Group.IdxX; r < count; r += Group.DimX)
        {
            int end = range[(r * ValueScratch.RangeWords) + 2] - firstPosition + 1;
            int begin = end > window ? end - window : 0;
            end = end > pageTokens ? pageTokens : end;
            end = end < 0 ? 0 : end;
            bool isInside = entry >= range[r * ValueScratch.RangeWords] && entry < range[(r * ValueScratch.RangeWords) + 1];
            range[(r * ValueScratch.RangeWords) + 3] = isInside ? end : 0;
            range[(r * ValueScratch.RangeWords) + 4] = begin;
        }

        Group.Barrier();
        int seen = 0;
        for (int r = 0; r < count; r++)
        {
            seen = range[(r * ValueScratch.RangeWords) + 3] > seen ? range[(r * ValueScratch.RangeWords) + 3] : seen;
        }

        return seen;
    }
}
