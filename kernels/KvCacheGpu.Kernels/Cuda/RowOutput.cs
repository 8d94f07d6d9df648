using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Sums of 16 query rows over up to 128 elements of values, in registers. Each pair of tiles (T0 and T1, T2 and T3) holds 16 elements: lane 4 g + q has of rows g (A, B)
/// and g + 8 (C, D) the two elements that rows 2 q and 2 q + 1 of a tile of values hold (<see cref="IValueTiles.Element"/>, half 0 in the first, 1 in the second).
/// </summary>
internal struct RowSums
{
    public RefTiles<float> P0;
    public RefTiles<float> P1;
    public RefTiles<float> P2;
    public RefTiles<float> P3;

    /// <summary>The sums of weighted minima of each group of elements that has one, over the lane's tokens.</summary>
    public ScalePair Low0;
    public ScalePair Low1;
    public ScalePair Low2;
    public ScalePair Low3;
    public ScalePair Low4;

    /// <summary>The power of two that sums are in units of, where values have scales.</summary>
    public float Unit;
}

/// <summary>Weighted sums of a page's values, which lie in shared memory: [4 tiles of 16 tokens][pairs][32 lanes] Words4.</summary>
internal static class RowOutput
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    // What signed bytes in halves become 1024 + v + 128 by; levels are taken as they are.
    private static OffsetWords Turn
    {
        [MethodImpl(Inlined)]
        get
        {
            var turn = OffsetWords.Of(0x64806480, 0x64806480);
            turn.IsPlain = true;
            return turn;
        }
    }

    /// <summary>Pairs of accumulators that a value takes.</summary>
    public static int Pairs<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape => TileOutput.Loads<TValue, TShape>() * default(TValue).Tiles;

    /// <summary>Expands a page's values: warp n those of the n-th tile of tokens. Slots behind the last token seen are read as that one, as anything lies there, also NaN.</summary>
    [MethodImpl(Inlined)]
    public static void StageValues<TValue, TShape>(PagePlace page, ArrayView<Words4> values, int seen)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        int tile = Group.IdxX >> 5;
        int lane = Group.IdxX & 31;
        long first = page.First + page.Map.ValueFirst;
        WordViews from = default;
        from.One = page.Arena.One.SubView(first);
        from.Two = page.Arena.Two.SubView(first / 2);
        from.Four = page.Arena.Four.SubView(first / 4);
        ArrayView<Words4> to = values.SubView((tile * Pairs<TValue, TShape>() * 32) + lane);
        int token = (16 * tile) + (4 * (lane & 3));
        int last = default(TValue).IsOfOpenPages ? seen - 1 : default(TShape).PageTokens - 1;
        int words = TileOutput.ValueWords<TValue, TShape>();
        ValueTurn<TValue, TShape> turn = default;
        turn.From = from;
        turn.To = to;
        turn.At0 = (token < last ? token : last) * words;
        turn.At1 = (token + 1 < last ? token + 1 : last) * words;
        turn.At2 = (token + 2 < last ? token + 2 : last) * words;
        turn.At3 = (token + 3 < last ? token + 3 : last) * words;
        default(TShape).Values(ref turn);
    }

    /// <summary>sums = sums * scale + P V over a page; <paramref name="scale"/> has a factor of each of the lane's rows, <paramref name="valueAt"/> is the offset of its values in shared memory.</summary>
    [MethodImpl(Inlined)]
    public static void Add<TValue, TColumns, TShape>(ref RowSums sums, PagePlace page, int valueAt, ref RowSpan p, ScalePair scale)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        long scales = page.First + page.Map.ValueScales;
        RowParts w = default;
        ValuePlace values = default;
        values.At = valueAt;
        values.Stride = Pairs<TValue, TShape>() * 512;
        ScalePair lowScale = scale;
        if (default(TValue).Scales == Scaling.None)
        {
            RowWeights.Enter<TValue, TColumns>(ref w, ref p);
        }
        else
        {
            // Weights take the values' scales, in a unit that leaves the largest below 2^14.
            float most = RowWeights.LargestScale(page.Arena.Two, scales);
            for (int group = 1; default(TValue).Scales == Scaling.Group && group < default(TValue).Groups(default(TShape).ValueWidth); group++)
            {
                most = Lane.Max(most, RowWeights.LargestScale(page.Arena.Two, scales + (group * default(TShape).PageTokens)));
            }

            float next = TileScales.Unit(most);
            next = next < sums.Unit ? next : sums.Unit;
            float change = next * PortableMath.InverseOfPower(sums.Unit);
            sums.Unit = next;
            scale.A *= change;
            scale.B *= change;
            if (default(TValue).Scales != Scaling.Group)
            {
                RowWeights.EnterScaled<TValue, TColumns>(ref w, ref p, page.Arena.Two, scales, next);
            }
        }

        EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 0);
        Pair<TValue, TColumns>(ref sums.P0.T0, ref sums.P0.T1, ref w, scale, values, 0);
        EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 1);
        Pair<TValue, TColumns>(ref sums.P0.T2, ref sums.P0.T3, ref w, scale, values, 1);
        EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 2);
        Pair<TValue, TColumns>(ref sums.P1.T0, ref sums.P1.T1, ref w, scale, values, 2);
        EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 3);
        Pair<TValue, TColumns>(ref sums.P1.T2, ref sums.P1.T3, ref w, scale, values, 3);
        if (Pairs<TValue, TShape>() > 4)
        {
            EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 4);
            Pair<TValue, TColumns>(ref sums.P2.T0, ref sums.P2.T1, ref w, scale, values, 4);
        }

        if (Pairs<TValue, TShape>() > 5)
        {
            EnterGroup<TValue, TColumns, TShape>(ref w, ref sums, lowScale, ref p, page, 5);
            Pair<TValue, TColumns>(ref sums.P2.T2, ref sums.P2.T3, ref w, scale, values, 5);
        }

        if (Pairs<TValue, TShape>() > 6)
        {
            Pair<TValue, TColumns>(ref sums.P3.T0, ref sums.P3.T1, ref w, scale, values, 6);
            Pair<TValue, TColumns>(ref sums.P3.T2, ref sums.P3.T3, ref w, scale, values, 7);
        }
    }

    /// <summary>Writes the means of the values of the lane's rows, of which the second is eight on: sums over the sums of their weights.</summary>
    [MethodImpl(Inlined)]
    public static void Write<TValue, TShape>(ArrayView<float> partials, long row, ref RowSums sums, float sumA, float sumB)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        float inverse = default(TValue).Scales == Scaling.None ? 1f : PortableMath.InverseOfPower(sums.Unit) * default(TValue).Step;
        ScalePair factor = default;
        factor.A = sumA > 0f ? inverse / sumA : 0f;
        factor.B = sumB > 0f ? inverse / sumB : 0f;
        ArrayView<float> target = partials.SubView(row * default(TShape).ValueWidth);
        ScalePair sum = default;
        sum.A = sumA;
        sum.B = sumB;
        Put<TValue, TShape>(target, 0, sums.P0.T0, sums.P0.T1, factor, Low<TValue, TShape>(ref sums, 0, sum));
        Put<TValue, TShape>(target, 1, sums.P0.T2, sums.P0.T3, factor, Low<TValue, TShape>(ref sums, 1, sum));
        Put<TValue, TShape>(target, 2, sums.P1.T0, sums.P1.T1, factor, Low<TValue, TShape>(ref sums, 2, sum));
        Put<TValue, TShape>(target, 3, sums.P1.T2, sums.P1.T3, factor, Low<TValue, TShape>(ref sums, 3, sum));
        if (Pairs<TValue, TShape>() > 4)
        {
            Put<TValue, TShape>(target, 4, sums.P2.T0, sums.P2.T1, factor, Low<TValue, TShape>(ref sums, 4, sum));
        }

        if (Pairs<TValue, TShape>() > 5)
        {
            Put<TValue, TShape>(target, 5, sums.P2.T2, sums.P2.T3, factor, Low<TValue, TShape>(ref sums, 5, sum));
        }

        if (Pairs<TValue, TShape>() > 6)
        {
            Put<TValue, TShape>(target, 6, sums.P3.T0, sums.P3.T1, factor, Low<TValue, TShape>(ref sums, 6, sum));
            Put<TValue, TShape>(target, 7, sums.P3.T2, sums.P3.T3, factor, Low<TValue, TShape>(ref sums, 7, sum));
        }
    }

    // Tokens 0 and 2 of a lane's four, then 1 and 3, of the element in X and of that in Y: B operands of two times eight elements.
    [MethodImpl(Inlined)]
    private static Words4 Operands<TValue>(Words2 even, Words2 odd)
        where TValue : struct, IValueTiles => default(TValue).Offset == ValueOffset.Byte
            ? KeyOperands.Of(Lane.SignedHalves(even.X), Lane.SignedHalves(odd.X), Lane.SignedHalves(even.Y), Lane.SignedHalves(odd.Y))
            : KeyOperands.Of(even.X, odd.X, even.Y, odd.Y);

    // Lanes behind the last word read it; what they sum is nobody's.
    [MethodImpl(Inlined)]
    private static int Word<TValue, TShape>(int load, int g)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        int word = default(TValue).FirstWord(load);
        int behind = TileOutput.HasTail<TValue, TShape>() ? word + default(TValue).LaneEnd(g) - TileOutput.ValueWords<TValue, TShape>() : 0;
        return word + default(TValue).LaneWord(g) - (behind > 0 ? behind : 0);
    }

    // Weights times the scales of the group of elements that begins with a pair, if one does, and its minima.
    [MethodImpl(Inlined)]
    private static void EnterGroup<TValue, TColumns, TShape>(ref RowParts w, ref RowSums sums, ScalePair scale, ref RowSpan p, PagePlace page, int pair)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int pairs = default(TValue).GroupElements(default(TShape).ValueWidth) / 16;
        if (default(TValue).Scales != Scaling.Group || pair % pairs != 0)
        {
            return;
        }

        int group = pair / pairs;
        long scales = page.First + page.Map.ValueScales + (group * default(TShape).PageTokens);
        long minima = scales + (default(TShape).PageTokens / 2);
        RowWeights.EnterScaled<TValue, TColumns>(ref w, ref p, page.Arena.Two, scales, sums.Unit);
        if (group == 0)
        {
            RowWeights.AddMinima(ref sums.Low0, scale, ref p, page.Arena.Two, minima);
        }
        else if (group == 1)
        {
            RowWeights.AddMinima(ref sums.Low1, scale, ref p, page.Arena.Two, minima);
        }
        else if (group == 2)
        {
            RowWeights.AddMinima(ref sums.Low2, scale, ref p, page.Arena.Two, minima);
        }
        else if (group == 3)
        {
            RowWeights.AddMinima(ref sums.Low3, scale, ref p, page.Arena.Two, minima);
        }
        else
        {
            RowWeights.AddMinima(ref sums.Low4, scale, ref p, page.Arena.Two, minima);
        }
    }

    [MethodImpl(Inlined)]
    private static void Pair<TValue, TColumns>(ref RefTile<float> x, ref RefTile<float> y, ref RowParts w, ScalePair scale, ValuePlace values, int pair)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        values.At += 512 * pair;
        RowSumsOfValues.Add(ref x, ref y, ref w, default(TValue).Arithmetic, RowWeights.Parts<TValue, TColumns>(), scale, values);
    }

    // The mean of the minima of a pair's group.
    [MethodImpl(Inlined)]
    private static ScalePair Low<TValue, TShape>(ref RowSums sums, int pair, ScalePair sum)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        ScalePair means = default;
        if (default(TValue).Scales == Scaling.Group)
        {
            int group = pair / (default(TValue).GroupElements(default(TShape).ValueWidth) / 16);
            ScalePair low = group == 0 ? sums.Low0 : group == 1 ? sums.Low1 : group == 2 ? sums.Low2 : group == 3 ? sums.Low3 : sums.Low4;

            // All lanes meet before any looks whether its row has seen a token.
            float all = RowTiles.SumOfColumns(low.A);
            means.A = sum.A > 0f ? all / sum.A : 0f;
            all = RowTiles.SumOfColumns(low.B);
            means.B = sum.B > 0f ? all / sum.B : 0f;
        }

        return means;
    }

    [MethodImpl(Inlined)]
    private static void Put<TValue, TShape>(ArrayView<float> target, int pair, RefTile<float> x, RefTile<float> y, ScalePair factor, ScalePair low)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        TValue codec = default;
        int load = pair / codec.Tiles;
        int tile = pair - (load * codec.Tiles);
        int g = 2 * (Group.IdxX & 3);
        float even = codec.Offset != ValueOffset.None ? 1f : codec.Factor(0);
        float odd = codec.Offset != ValueOffset.None ? 1f : codec.Factor(1);
        int second = 8 * default(TShape).ValueWidth;
        int element = codec.Element(load, g, tile, 0);
        TileOutput.Put<TValue, TShape>(target, 0, element, (x.A.Value * even * factor.A) + low.A);
        TileOutput.Put<TValue, TShape>(target, second, element, (x.C.Value * even * factor.B) + low.B);
        element = codec.Element(load, g + 1, tile, 0);
        TileOutput.Put<TValue, TShape>(target, 0, element, (x.B.Value * even * factor.A) + low.A);
        TileOutput.Put<TValue, TShape>(target, second, element, (x.D.Value * even * factor.B) + low.B);
        element = codec.Element(load, g, tile, 1);
        TileOutput.Put<TValue, TShape>(target, 0, element, (y.A.Value * odd * factor.A) + low.A);
        TileOutput.Put<TValue, TShape>(target, second, element, (y.C.Value * odd * factor.B) + low.B);
        element = codec.Element(load, g + 1, tile, 1);
        TileOutput.Put<TValue, TShape>(target, 0, element, (y.B.Value * odd * factor.A) + low.A);
        TileOutput.Put<TValue, TShape>(target, second, element, (y.D.Value * odd * factor.B) + low.B);
    }

    // One load of a lane's four tokens, from a page to operands.
    private struct ValueTurn<TValue, TShape> : ITurn
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        public WordViews From;
        public ArrayView<Words4> To;
        public int At0;
        public int At1;
        public int At2;
        public int At3;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            TValue codec = default;
            int word = Word<TValue, TShape>(i, (Group.IdxX & 31) >> 2);
            Words4 w0 = codec.Load(From, At0 + word, i);
            Words4 w1 = codec.Load(From, At1 + word, i);
            Words4 w2 = codec.Load(From, At2 + word, i);
            Words4 w3 = codec.Load(From, At3 + word, i);
            int at = i * codec.Tiles * 32;
            To[at] = Operands<TValue>(codec.Rows0(w0, w2, Turn), codec.Rows0(w1, w3, Turn));
            if (codec.Tiles > 1)
            {
                To[at + 32] = Operands<TValue>(codec.Rows1(w0, w2, Turn), codec.Rows1(w1, w3, Turn));
            }

            if (codec.Tiles > 2)
            {
                To[at + 64] = Operands<TValue>(codec.Rows2(w0, w2, Turn), codec.Rows2(w1, w3, Turn));
                To[at + 96] = Operands<TValue>(codec.Rows3(w0, w2, Turn), codec.Rows3(w1, w3, Turn));
            }
        }
    }
}
