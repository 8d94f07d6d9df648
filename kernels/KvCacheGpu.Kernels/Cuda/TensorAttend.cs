using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a block of 8 or 4 queries over one segment of pages of one pair of formats, on tensor cores; what <see cref="AttendKernel"/> does, with
/// the same tables and the same partial results. One warp per (block, head, segment); no barriers.
/// </summary>
/// <remarks>
/// <code>
/// Tokens are the rows of both products, queries the columns, so that a page's elements are read as they lie:
///   S^T[64 tokens][8] = K Q^T      O^T[16 elements][8] = V^T[16][64 tokens] P^T, for each 16 elements
/// Queries and weights are entered in parts (<see cref="QueryTiles"/>): what pages hold is exact in 16 bits, so nothing is lost but by sums in binary32.
/// Each page has its own largest logit and sum: they are its statistics, and sums of at most 64 products do not drift where a device truncates.
///
/// Shared memory of a warp: query parts Words2[steps][parts][32], then sums Floats4[tiles][32]; each lane reads what it wrote itself.
/// </code>
/// </remarks>
internal static class TensorAttend
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    // Weights are at most 2^14 in binary16, so that their second part is not subnormal where a first one of 2^-10 of the largest is. In bfloat16 they are small, so that no sum
    // of values up to 2^128 leaves binary32.
    private const float HalfBias = 14f;
    private const float BFloatBias = -24f;
    private const float Ln2 = 0.693147181f;
    private const float Log2E = 1.44269504f;

    /// <summary>Warps of a block.</summary>
    public static int Warps<TShape>()
        where TShape : struct, ITensorShape => default(TShape).KeyWidth > 256 ? 1 : default(TShape).KeyWidth > 128 ? 2 : 4;

    public static void Split<TKey, TValue, TColumns, TShape>(
        WordViews arena, ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> partials, ArrayView<float> partialStats, AttendDims call, KernelDims dims)
        where TKey : struct, IKeyTiles
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int lane = Group.IdxX & 31;
        int g = lane >> 2;
        int quad = lane & 3;
        int warp = Group.IdxX >> 5;
        int work = (Grid.IdxX * Warps<TShape>()) + warp;
        int item = work / call.Segments;
        int segment = work - (item * call.Segments);
        int block = KernelDims.Blocks + ((call.FirstBlock + (item / dims.KvHeads)) * 2);
        int head = item % dims.KvHeads;
        ArrayView<Words2> allParts = SharedMemory.Allocate<Words2>(
            Warps<TShape>() * QueryTiles.Steps<TKey, TShape>() * QueryTiles.Parts<TKey, TColumns>() * 32);
        ArrayView<Floats4> allSums = SharedMemory.Allocate<Floats4>(
            Warps<TShape>() * TileOutput.Loads<TValue, TShape>() * TileOutput.Slots<TValue, TColumns>() * 32);
        if (work >= call.Items)
        {
            return;
        }

        ArrayView<Words2> parts = allParts.SubView(
            (warp * QueryTiles.Steps<TKey, TShape>() * QueryTiles.Parts<TKey, TColumns>() * 32) + lane);
        ArrayView<Floats4> sums = allSums.SubView((warp * TileOutput.Loads<TValue, TShape>() * TileOutput.Slots<TValue, TColumns>() * 32) + lane);
        var range = new QueryRange(arena.One, batch, block, head, segment, default(TColumns).Count, call, dims);

        // This lane's query as a column of B, and the two whose sums it holds.
        int column = default(TColumns).Count == 8 ? g : g >> 1;
        QueryPlace place = range.Place(column, head, call.Layer, dims);
        float largest = QueryTiles.Largest<TShape>(queries, place, quad);
        int exponent = QueryTiles.Exponent<TKey>(largest);
        QueryTiles.Store<TKey, TColumns, TShape>(queries, place, parts, quad, g & 1, exponent);
        int exponentA = Warp.Shuffle(exponent, default(TColumns).Count == 8 ? 8 * quad : 8 * quad);
        int exponentB = Warp.Shuffle(exponent, default(TColumns).Count == 8 ? (8 * quad) + 4 : 8 * quad);
        var a = new ColumnState(range, (default(TColumns).Count == 8 ? 2 : 1) * quad, exponentA, call.Layer.Logits.Exponent);
        var b = new ColumnState(range, default(TColumns).Count == 8 ? (2 * quad) + 1 : quad, exponentB, call.Layer.Logits.Exponent);
        for (int i = 0; i < TileOutput.Loads<TValue, TShape>() * TileOutput.Slots<TValue, TColumns>(); i++)
        {
            sums[i * 32] = default;
        }

        int keyLane = (default(TKey).LaneWords * quad * default(TShape).PageTokens) + (2 * g);
        int valueLane = call.Layer.Page.ValueFirst + (4 * quad * TileOutput.ValueWords<TValue, TShape>()) + default(TValue).LaneWord(g);
        for (int entry = range.First; entry < range.Last; entry++)
        {
            ArrayView<int> leaf = dims.Leaf(arena.One, range.Slot, entry);
            int at = dims.InLeaf(call.Layer.Layer, head, entry);
            int tag = leaf[dims.LeafTags + at];
            if (((call.Layer.Classes >> TableMap.ClassOf(tag)) & 1) != 0)
            {
                long page = (long)leaf[at] * PageLayout.UnitWords;
                int first = TableMap.PageIndexOf(tag) * default(TShape).PageTokens;
                ArrayView<Words2> keys = arena.Two.SubView((page + keyLane) / 2);
                Span64 s = TileLogits.OfHalves<TKey, TColumns, TShape>(keys, parts);
                bool isWhole = range.IsWhole(entry, first, default(TShape).PageTokens, call.Layer.Window);
                if (!isWhole)
                {
                    Mask<TColumns>(ref s, a, b, entry, first, g, call.Layer.Window);
                }

                float mostA = Largest(s, false);
                float mostB = default(TColumns).Count == 8 ? Largest(s, true) : 0f;
                float nextA = Lane.Max(a.Most, mostA * a.Factor);
                float nextB = Lane.Max(b.Most, mostB * b.Factor);
                ScalePair scale = default;
                scale.A = Lane.Exp2(a.Most - nextA);
                scale.B = default(TColumns).Count == 8 ? Lane.Exp2(b.Most - nextB) : scale.A;
                a.Most = nextA;
                b.Most = nextB;
                Weigh<TColumns>(ref s, a, b, HalfBias);
                float sumA = Sum(s, false);
                float sumB = default(TColumns).Count == 8 ? Sum(s, true) : 0f;
                a.Sum = Lane.Fma(a.Sum, scale.A, sumA);
                b.Sum = Lane.Fma(b.Sum, scale.B, sumB);
                WeightParts p = default;
                TileOutput.Enter<TValue, TColumns>(s.T0, ref p.A0, ref p.B0, ref p.C0);
                TileOutput.Enter<TValue, TColumns>(s.T1, ref p.A1, ref p.B1, ref p.C1);
                TileOutput.Enter<TValue, TColumns>(s.T2, ref p.A2, ref p.B2, ref p.C2);
                TileOutput.Enter<TValue, TColumns>(s.T3, ref p.A3, ref p.B3, ref p.C3);
                WordViews values = default;
                values.One = arena.One.SubView(page + valueLane);
                values.Two = arena.Two.SubView((page + valueLane) / 2);
                values.Four = arena.Four.SubView((page + valueLane) / 4);
                TokenCut cut = default;
                cut.IsCut = false;
                TileOutput.Add<TValue, TColumns, TShape>(values, sums, p, scale, cut);
            }
        }

        partialStats[work] = a.Sum + b.Sum;
        for (int i = 0; i < TileOutput.Loads<TValue, TShape>() * TileOutput.Slots<TValue, TColumns>(); i++)
        {
            Floats4 f = sums[i * 32];
            partials[work * 1024 + i * 128 + lane] = f.A;
            partials[work * 1024 + i * 128 + lane + 1] = f.B;
            partials[work * 1024 + i * 128 + lane + 2] = f.C;
            partials[work * 1024 + i * 128 + lane + 3] = f.D;
        }
    }

    [MethodImpl(Inlined)]
    private static float Largest(Span64 s, bool second)
    {
        float even = second
            ? Lane.Max(Lane.Max(s.T0.B, s.T1.B), Lane.Max(s.T2.B, s.T3.B))
            : Lane.Max(Lane.Max(s.T0.A, s.T1.A), Lane.Max(s.T2.A, s.T3.A));
        float odd = second
            ? Lane.Max(Lane.Max(s.T0.D, s.T1.D), Lane.Max(s.T2.D, s.T3.D))
            : Lane.Max(Lane.Max(s.T0.C, s.T1.C), Lane.Max(s.T2.C, s.T3.C));
        return Lane.LargestOfRows(Lane.Max(even, odd));
    }

    [MethodImpl(Inlined)]
    private static float Sum(Span64 s, bool second)
    {
        float even = second ? s.T0.B + s.T1.B + (s.T2.B + s.T3.B) : s.T0.A + s.T1.A + (s.T2.A + s.T3.A);
        float odd = second ? s.T0.D + s.T1.D + (s.T2.D + s.T3.D) : s.T0.C + s.T1.C + (s.T2.C + s.T3.C);
        return Lane.SumOfRows(even + odd);
    }

    [MethodImpl(Inlined)]
    private static void Weigh<TColumns>(ref Span64 s, ColumnState a, ColumnState b, float bias)
        where TColumns : struct, IQueryColumns
    {
        Weigh<TColumns>(ref s.T0, a.Factor, b.Factor, bias - a.Most, bias - b.Most);
        Weigh<TColumns>(ref s.T1, a.Factor, b.Factor, bias - a.Most, bias - b.Most);
        Weigh<TColumns>(ref s.T2, a.Factor, b.Factor, bias - a.Most, bias - b.Most);
        Weigh<TColumns>(ref s.T3, a.Factor, b.Factor, bias - a.Most, bias - b.Most);
    }

    [MethodImpl(Inlined)]
    private static void Weigh<TColumns>(ref Floats4 t, float factorA, float factorB, float moreA, float moreB)
        where TColumns : struct, IQueryColumns
    {
        t.A = Lane.Exp2(Lane.Fma(t.A, factorA, moreA));
        t.C = Lane.Exp2(Lane.Fma(t.C, factorA, moreA));
        if (default(TColumns).Count == 8)
        {
            t.B = Lane.Exp2(Lane.Fma(t.B, factorB, moreB));
            t.D = Lane.Exp2(Lane.Fma(t.D, factorB, moreB));
        }
    }

    [MethodImpl(Inlined)]
    private static void Mask<TColumns>(ref Span64 s, ColumnState a, ColumnState b, int entry, int first, int g, int window)
        where TColumns : struct, IQueryColumns
    {
        Mask(ref s.T0, a, b, first, 2 * g, window);
        Mask(ref s.T1, a, b, first, (2 * g) + 16, window);
        Mask(ref s.T2, a, b, first, (2 * g) + 32, window);
        Mask(ref s.T3, a, b, first, (2 * g) + 48, window);
    }

    [MethodImpl(Inlined)]
    private static void Mask(ref Floats4 t, ColumnState a, ColumnState b, int first, int token, int window)
    {
        t.A = a.Sees(first + token, window) ? t.A : float.NegativeInfinity;
        t.B = b.Sees(first + token, window) ? t.B : float.NegativeInfinity;
        t.C = a.Sees(first + token + 1, window) ? t.C : float.NegativeInfinity;
        t.D = b.Sees(first + token + 1, window) ? t.D : float.NegativeInfinity;
    }
}
