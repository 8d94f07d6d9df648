using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a block of 8 or 4 queries over one segment of pages of one pair of formats, on tensor cores; what <see cref="AttendKernel"/> does, with
/// the same tables and the same partial results. One warp per (block, head, segment); no barriers.
/// </summary>
/// <remarks>
/// <code>
/// Tokens are the rows of the first product and the sum of the second, queries the columns of both, so that a page's elements are read as they lie:
///   S^T[64 tokens][8] = K Q^T      O^T[16 elements][8] = V^T[16][64 tokens] P^T, for each 16 elements
/// Queries and weights are entered in parts (QueryTiles): what pages hold is exact in 16 bits or in whole numbers, so nothing is lost but by sums in binary32.
/// Each page has its own largest logit and its own sum: they are its statistics, and chains of a page's products are too short to drift where a device truncates.
///
/// Shared memory of a warp: query parts Words2[steps][parts][32], then sums Floats4[places][32]; each lane reads only what it wrote itself.
/// </code>
/// Online softmax: FlashAttention-2 (Dao 2023), split over pages: flash-decoding (Dao et al. 2023).
/// </remarks>
internal static class TensorAttend
{
    public const float Ln2 = 0.693147181f;
    public const float Log2E = 1.44269504f;

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Warps of a group.</summary>
    public static int Warps<TShape>()
        where TShape : struct, ITensorShape => default(TShape).KeyWidth > 256 ? 1 : default(TShape).KeyWidth > 128 ? 2 : 4;

    /// <summary>Bytes of a group's shared memory.</summary>
    public static int SharedBytes<TKey, TValue, TColumns, TShape>()
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape =>
        Warps<TShape>() * 32 * ((QueryTiles.Words<TKey, TColumns, TShape>() * 8) + (TileOutput.Places<TValue, TColumns, TShape>() * 16));

    /// <summary>partials[item][segment][R][wV] (means of the values) and partialStats[item][segment][R][3] = (max, sum, exponent); the last token's page statistics go to the tables.</summary>
    public static void Split<TKey, TValue, TColumns, TShape>(
        WordViews arena, ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> partials, ArrayView<float> partialStats, AttendDims call, KernelDims dims)
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        SumTiles.Declare();
        int lane = Group.IdxX & 31;
        int g = lane >> 2;
        int quad = lane & 3;
        int warp = Group.IdxX >> 5;
        int work = (Grid.IdxX * Warps<TShape>()) + warp;
        ArrayView<Words2> allParts = SharedMemory.Allocate<Words2>(Warps<TShape>() * QueryTiles.Words<TKey, TColumns, TShape>() * 32);
        ArrayView<Floats4> allSums = SharedMemory.Allocate<Floats4>(Warps<TShape>() * TileOutput.Places<TValue, TColumns, TShape>() * 32);
        if (work >= call.Items)
        {
            return;
        }

        QueryRange range = QueryRange.Of(arena.One, batch, work, (0, default(TColumns).Count), call, dims);
        if (range.First >= range.Last)
        {
            // Behind the last page: MergeKernel reads nothing of such a segment.
            return;
        }

        ArrayView<Words2> parts = allParts.SubView((warp * QueryTiles.Words<TKey, TColumns, TShape>() * 32) + lane);
        ArrayView<Floats4> sums = allSums.SubView((warp * TileOutput.Places<TValue, TColumns, TShape>() * 32) + lane);
        ColumnState a = default;
        ColumnState b = default;
        QueryTiles.Enter<TKey, TColumns, TShape>(queries, range, parts, ref a, ref b, call.Layer, dims);
        range.Start(ref a, default(TColumns).Count == 8 ? 2 * quad : quad, dims);
        range.Start(ref b, default(TColumns).Count == 8 ? (2 * quad) + 1 : quad, dims);
        TileOutput.Clear<TValue, TColumns, TShape>(sums);
        var keys = KeysOfLane.At<TKey, TColumns>((KeyLoads.LaneWord<TKey, TShape>(quad) * default(TShape).PageTokens / TokenOrder.Lane<TShape>()) + g, a, b);
        var values = ValuesOfLane.At<TValue>(call.Layer.Page.ValueFirst + (2 * TokenOrder.Lane<TShape>() * quad * TileOutput.ValueWords<TValue, TShape>()) + TileOutput.LaneWord<TValue, TShape>(g));
        WeightShift shift = default;
        shift.Exponent = TileScales.Shift(0f);
        TableCursor cursor = TableCursor.Of(range, call.Layer.Layer, dims);
        bool isMeasured = range.IsMeasured();
        SeenPages pages = range.Seen(call.Layer, dims);
        for (int entry = range.First; entry < range.Last; entry++)
        {
            cursor.Reach(arena.One, range.Slot, entry, call.Layer.Classes, dims);
            int index = cursor.Page(entry);
            int slot = cursor.Slot(entry);
            if (index < 0)
            {
                continue;
            }

            int first = index * default(TShape).PageTokens;
            ScalePair largest = default;
            ScalePair pageSum = default;
            largest.A = float.NegativeInfinity;
            largest.B = float.NegativeInfinity;
            if (first > pages.PassedLast)
            {
                PageWords page = PageWords.At(arena, slot, call.Layer.Page);
                bool isWhole = pages.IsWhole(entry, first);
                int seen = default(TShape).PageTokens > 64 ? range.Seen(first, default(TShape).PageTokens) : default(TShape).PageTokens;
                do
                {
                    Span64 s = TileLogits.Of<TKey, TColumns, TShape>(page, keys, parts, a, b);
                    if (default(TShape).IsCapped)
                    {
                        TileWeights.Cap(ref s, a, b, call.Layer.Logits.Cap);
                    }

                    if (!isWhole || default(TShape).PageTokens < 64)
                    {
                        TileWeights.Mask<TShape>(ref s, a, b, entry, first + page.Span, default(TShape).PageTokens - page.Span, call.Layer.Window);
                    }

                    ScalePair spanLargest = TileWeights.Largest<TColumns>(s);
                    ScalePair scale = default;
                    if (default(TValue).Scales == Scaling.None)
                    {
                        scale.A = TileWeights.Advance<TKey>(ref a, spanLargest.A);
                        scale.B = default(TColumns).Count == 8 ? TileWeights.Advance<TKey>(ref b, spanLargest.B) : scale.A;
                    }
                    else
                    {
                        TileOutput.Shift<TValue, TShape>(page, ref shift);
                        scale.A = TileWeights.AdvanceBy(ref a, spanLargest.A, shift.Exponent);
                        scale.B = default(TColumns).Count == 8 ? TileWeights.AdvanceBy(ref b, spanLargest.B, shift.Exponent) : scale.A;
                    }

                    TileWeights.Weigh<TKey, TColumns>(ref s, a, b, TileWeights.Bias<TValue>());
                    ScalePair sum = TileWeights.Sum<TColumns>(s);
                    a.Sum = Lane.Fma(a.Sum, scale.A, sum.A);
                    b.Sum = Lane.Fma(b.Sum, scale.B, sum.B);
                    bool isOne = default(TShape).PageTokens <= 64;
                    largest.A = isOne ? spanLargest.A : Lane.Max(largest.A, spanLargest.A);
                    largest.B = isOne ? spanLargest.B : Lane.Max(largest.B, spanLargest.B);
                    pageSum.A = isOne ? sum.A : Lane.Fma(pageSum.A, scale.A, sum.A);
                    pageSum.B = isOne ? sum.B : Lane.Fma(pageSum.B, scale.B, sum.B);
                    if (isWhole || !default(TValue).IsOfOpenPages)
                    {
                        TileOutput.Add<TValue, TColumns, TShape>(page, values, sums, s, scale, default);
                    }
                    else
                    {
                        TokenCut cut = TokenCut.At(range.Seen(first, default(TShape).PageTokens) - page.Span, quad);
                        TileOutput.Add<TValue, TColumns, TShape>(page, values, sums, s, scale, cut);
                    }

                    page.Span += 64;
                }
                while (default(TShape).PageTokens > 64 && page.Span < default(TShape).PageTokens && page.Span < seen);
            }

            if (isMeasured)
            {
                pageSum.A = Lane.SumOfRows(pageSum.A);
                pageSum.B = default(TColumns).Count == 8 ? Lane.SumOfRows(pageSum.B) : 0f;
                ArrayView<int> statistics = cursor.Statistics(arena.One, entry, index, dims);
                if (g == 0)
                {
                    WriteStatistic<TKey>(statistics, a, entry, largest.A, pageSum.A, TileWeights.Bias<TValue>());
                    if (default(TColumns).Count == 8)
                    {
                        WriteStatistic<TKey>(statistics, b, entry, largest.B, pageSum.B, TileWeights.Bias<TValue>());
                    }
                }
            }
        }

        a.Sum = Lane.SumOfRows(a.Sum);
        b.Sum = default(TColumns).Count == 8 ? Lane.SumOfRows(b.Sum) : 0f;
        long result = (long)work * default(TColumns).Count;
        if (g == 0)
        {
            WriteResult<TKey>(partialStats, Settled<TValue>(a), result + (default(TColumns).Count == 8 ? 2 * quad : quad), TileWeights.Bias<TValue>());
            if (default(TColumns).Count == 8)
            {
                WriteResult<TKey>(partialStats, Settled<TValue>(b), result + (2 * quad) + 1, TileWeights.Bias<TValue>());
            }
        }

        TileOutput.Write<TValue, TColumns, TShape>(partials, result * default(TShape).ValueWidth, sums, a.Sum, b.Sum);
    }

    // Where weights were shifted the sum may be far from 1: its power of two goes to what weights are relative to.
    [MethodImpl(Inlined)]
    private static ColumnState Settled<TValue>(ColumnState column)
        where TValue : struct, IValueTiles
    {
        if (default(TValue).Scales != Scaling.None && column.Extra == 0)
        {
            int exponent = (int)(Interop.FloatAsInt(column.Sum) >> 23) - 127;
            column.Most += exponent;
            column.Sum *= PortableMath.PowerOf(-exponent);
        }

        return column;
    }

    /// <summary>The statistics of a page: two words for each query head of the group.</summary>
    [MethodImpl(Inlined)]
    public static ArrayView<int> Statistics(ArrayView<int> arena, KernelDims dims, int sequence, int layer, int head, int tag)
    {
        int page = TableMap.PageIndexOf(tag);
        int first = dims.LeafStats + (dims.InLeaf(layer, head, page) * dims.GroupSize * 2);
        return dims.Leaf(arena, sequence, page).SubView(first, dims.GroupSize * 2);
    }

    /// <summary>Writes that a measured query sees nothing of a page.</summary>
    [MethodImpl(Inlined)]
    public static void WriteUnseen(ArrayView<int> statistics, ColumnState column, int entry)
    {
        if (column.IsWritten(entry))
        {
            statistics[column.Statistic] = (int)Interop.FloatAsInt(float.NegativeInfinity);
            statistics[column.Statistic + 1] = 0;
        }
    }

    /// <summary>Writes a measured query's largest logit and its sum.</summary>
    [MethodImpl(Inlined)]
    public static void WriteStatistic<TKey>(ArrayView<int> statistics, ColumnState column, int entry, float largest, float sum, float bias)
        where TKey : struct, IKeyTiles
    {
        if (column.IsWritten(entry))
        {
            // A page far below the largest logit so far has lost its sum, of which its own largest logit is 1. (0 times infinity is no number: then 1 is the larger.)
            float below = default(TKey).Arithmetic == TileArithmetic.BFloats ? (column.Most - largest) * column.Factor : column.Most - (largest * column.Factor);
            float own = Lane.Max(sum * Lane.Exp2(below - bias), 1f);
            bool isSeen = largest > float.NegativeInfinity;
            float logit = PortableMath.Scaled(largest * (column.Base * Ln2), column.Extra);
            logit = Lane.Max(Lane.Min(logit, float.MaxValue), -float.MaxValue);
            ArrayView<int> target = statistics.SubView(column.Statistic);
            target[0] = (int)Interop.FloatAsInt(isSeen ? logit : float.NegativeInfinity);
            target[1] = (int)Interop.FloatAsInt(isSeen ? own : 0f);
        }
    }

    /// <summary>Writes a query's partial statistics.</summary>
    [MethodImpl(Inlined)]
    public static void WriteResult<TKey>(ArrayView<float> partialStats, ColumnState column, long result, float bias)
        where TKey : struct, IKeyTiles
    {
        bool isSeen = column.Sum > 0f;
        float most = default(TKey).Arithmetic == TileArithmetic.BFloats ? column.Most * column.Base : column.Most;
        partialStats[result * AttendKernel.PartialWords] = isSeen ? most * Ln2 : float.NegativeInfinity;
        partialStats[(result * AttendKernel.PartialWords) + 1] = column.Sum * Lane.Exp2(-bias);
        partialStats[(result * AttendKernel.PartialWords) + 2] = column.Extra;
    }
}
