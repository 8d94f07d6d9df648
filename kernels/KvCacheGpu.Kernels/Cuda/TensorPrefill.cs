using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a block of 64 queries over one segment of pages of one pair of formats, on tensor cores: what <see cref="TensorAttend"/> does for few queries, with the
/// same tables and the same partial results. A group of four warps per (block, head, segment); each page is expanded once for all of them.
/// </summary>
/// <remarks>
/// <code>
/// Queries are the rows of both products, 16 of them a warp; tokens are the columns of the first one, elements those of the second:
///   S[16][64 tokens] = Q K^T      O[16][16 elements] = P[16][64 tokens] V, for each 16 elements
/// Queries and weights are entered in parts (QueryTiles), all of them or, in the fast mode, one less: the sums in the accumulators are those of TensorAttend, turned.
/// A page's own sums are added to those before in binary32, not in an mma.
///
/// Shared memory: query parts Words4[4 warps][steps][parts][32 lanes]; the page's keys Words4[steps][4][32], its values Words4[4][pairs][32], both in
/// the order of operands; they take turns in one place where there is no room for two.
/// </code>
/// </remarks>
internal static class TensorPrefill
{
    /// <summary>Warps of a group.</summary>
    public const int Warps = 4;

    /// <summary>Queries of a block.</summary>
    public const int Rows = 16 * Warps;

    private const int SharedBytes = 48 * 1024;

    /// <summary>True if shared memory holds the queries and a page.</summary>
    public static bool Fits<TKey, TValue, TColumns, TShape>()
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape => Bytes<TKey, TValue, TColumns, TShape>(isOnePlace: true) <= SharedBytes;

    /// <summary>partials[item][segment][R][wV] (means of the values) and partialStats[item][segment][R][3] = (max, sum, exponent); the last token's page statistics go to the tables.</summary>
    public static void Split<TKey, TValue, TColumns, TShape>(
        WordViews arena, ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> partials, ArrayView<float> partialStats, AttendDims call, KernelDims dims)
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        SumTiles.Declare();

        // One piece of shared memory, which statements in PTX know by its name.
        ArrayView<Words4> shared = SharedMemory.Allocate<Words4>(Bytes<TKey, TValue, TColumns, TShape>(Bytes<TKey, TValue, TColumns, TShape>(isOnePlace: false) > SharedBytes) / 16);
        bool isOnePlace = Bytes<TKey, TValue, TColumns, TShape>(isOnePlace: false) > SharedBytes;
        int keyFirst = Warps * RowTiles.Slots<TKey, TColumns, TShape>() * 32;
        int valueFirst = keyFirst + (isOnePlace ? 0 : KeySlots<TKey, TShape>() * 32);
        ArrayView<Words4> keys = shared.SubView(keyFirst);
        ArrayView<Words4> values = shared.SubView(valueFirst);
        ArrayView<Words2> mean = shared.Cast<Words2>().SubView(2 * (keyFirst + (PageSlots<TKey, TValue, TShape>(isOnePlace) * 32)));
        int lane = Group.IdxX & 31;
        int g = lane >> 2;
        int quad = lane & 3;
        int warp = Group.IdxX >> 5;
        QueryRange range = QueryRange.Of(arena.One, batch, Grid.IdxX, (0, Rows), call, dims);
        if (range.First >= range.Last)
        {
            return;
        }

        QueryRange own = QueryRange.Of(arena.One, batch, Grid.IdxX, (16 * warp, 16), call, dims);
        RowQueries rows = default;
        int parts = (warp * RowTiles.Slots<TKey, TColumns, TShape>() * 32) + lane;
        rows.Parts = shared.SubView(parts);
        rows.At = 16 * parts;
        QueryTiles.EnterRow<TKey, TColumns, TShape>(queries, own.Place(g, call.Layer, dims), rows.Parts, 0, ref rows.A, call.Layer.Logits);
        QueryTiles.EnterRow<TKey, TColumns, TShape>(queries, own.Place(g + 8, call.Layer, dims), rows.Parts, 1, ref rows.B, call.Layer.Logits);
        RowTiles.Cross<TKey, TColumns, TShape>(rows.Parts);
        own.Start(ref rows.A, g, dims);
        own.Start(ref rows.B, g + 8, dims);
        RowSums sums = default;
        sums.Unit = TileOutput.FirstUnit;
        RowSpan s = default;
        for (int entry = range.First; entry < range.Last; entry++)
        {
            ArrayView<int> leaf = dims.Leaf(arena.One, range.Slot, entry);
            int at = dims.InLeaf(call.Layer.Layer, range.Head, entry);
            int tag = leaf[dims.LeafTags + at];
            int first = TableMap.PageIndexOf(tag) * default(TShape).PageTokens;
            if (((call.Layer.Classes >> TableMap.ClassOf(tag)) & 1) == 0)
            {
                continue;
            }

            bool isPassed = own.HasPassed(first, default(TShape).PageTokens, call.Layer.Window);
            if (isPassed && own.IsMeasured() && quad == 0)
            {
                ArrayView<int> unseen = TensorAttend.Statistics(arena.One, dims, range.Slot, call.Layer.Layer, range.Head, tag);
                TensorAttend.WriteUnseen(unseen, rows.A, entry);
                TensorAttend.WriteUnseen(unseen, rows.B, entry);
            }

            if (range.HasPassed(first, default(TShape).PageTokens, call.Layer.Window))
            {
                continue;
            }

            PagePlace page = default;
            page.Arena = arena;
            page.First = (long)leaf[at] * PageLayout.UnitWords;
            page.Map = call.Layer.Page;
            int seen = range.Seen(first, default(TShape).PageTokens);
            bool isActive = !isPassed && entry >= own.First && entry < own.Last;
            ScalePair scale = default;

            // Until all warps are done with the page before.
            Group.Barrier();
            RowTiles.StageKeys<TKey, TShape>(page, keys);
            if (default(TKey).Scales == Scaling.Gain)
            {
                RowTiles.StageMean<TKey, TShape>(page, mean);
            }

            if (!isOnePlace)
            {
                RowOutput.StageValues<TValue, TShape>(page, values, seen);
            }

            Group.Barrier();
            if (isActive)
            {
                RowTiles.Multiply<TKey, TColumns, TShape>(ref s, page, rows, 16 * (keyFirst + lane), mean);
                if (!own.SeesAll(entry, first, default(TShape).PageTokens, call.Layer.Window))
                {
                    RowWeights.Mask(ref s, rows, entry, first, call.Layer.Window);
                }

                ScalePair largest = RowWeights.Largest(ref s);
                scale.A = TileWeights.Advance<TKey>(ref rows.A, largest.A);
                scale.B = TileWeights.Advance<TKey>(ref rows.B, largest.B);
                RowWeights.Weigh<TKey>(ref s, rows, TileWeights.Bias<TValue>());
                ScalePair sum = RowWeights.Sum(ref s);
                rows.A.Sum = Lane.Fma(rows.A.Sum, scale.A, sum.A);
                rows.B.Sum = Lane.Fma(rows.B.Sum, scale.B, sum.B);
                if (own.IsMeasured())
                {
                    sum.A = RowTiles.SumOfColumns(sum.A);
                    sum.B = RowTiles.SumOfColumns(sum.B);
                    if (quad == 0)
                    {
                        ArrayView<int> statistics = TensorAttend.Statistics(arena.One, dims, range.Slot, call.Layer.Layer, range.Head, tag);
                        TensorAttend.WriteStatistic<TKey>(statistics, rows.A, entry, largest.A, sum.A, TileWeights.Bias<TValue>());
                        TensorAttend.WriteStatistic<TKey>(statistics, rows.B, entry, largest.B, sum.B, TileWeights.Bias<TValue>());
                    }
                }
            }

            if (isOnePlace)
            {
                Group.Barrier();
                RowOutput.StageValues<TValue, TShape>(page, values, seen);
                Group.Barrier();
            }

            if (isActive)
            {
                RowOutput.Add<TValue, TColumns, TShape>(ref sums, page, 16 * (valueFirst + lane), ref s, scale);
            }
        }

        rows.A.Sum = RowTiles.SumOfColumns(rows.A.Sum);
        rows.B.Sum = RowTiles.SumOfColumns(rows.B.Sum);
        long result = ((long)Grid.IdxX * Rows) + (16 * warp) + g;
        if (quad == 0)
        {
            TensorAttend.WriteResult<TKey>(partialStats, rows.A, result, TileWeights.Bias<TValue>());
            TensorAttend.WriteResult<TKey>(partialStats, rows.B, result + 8, TileWeights.Bias<TValue>());
        }

        RowOutput.Write<TValue, TShape>(partials, result, ref sums, rows.A.Sum, rows.B.Sum);
    }

    // Bytes of shared memory that queries and a page's keys and values, in one place or in two, take.
    private static int Bytes<TKey, TValue, TColumns, TShape>(bool isOnePlace)
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape =>
        (512 * ((Warps * RowTiles.Slots<TKey, TColumns, TShape>()) + PageSlots<TKey, TValue, TShape>(isOnePlace))) + (8 * MeanSlots<TKey, TShape>());

    // Words4 of each lane that a page takes.
    private static int KeySlots<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => 4 * RowTiles.Steps<TKey, TShape>();

    private static int PageSlots<TKey, TValue, TShape>(bool isOnePlace)
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        int keys = KeySlots<TKey, TShape>();
        int values = 4 * RowOutput.Pairs<TValue, TShape>();
        return !isOnePlace ? keys + values : keys > values ? keys : values;
    }

    private static int MeanSlots<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => default(TKey).Scales == Scaling.Gain ? 12 * RowTiles.Steps<TKey, TShape>() : 0;
}
