using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The weights of 64 tokens as A operands of mma: of each tile of 16 tokens four words for each part.</summary>
internal struct RowParts
{
    public InputWords A0;
    public InputWords A1;
    public InputWords A2;
    public InputWords A3;
    public InputWords B0;
    public InputWords B1;
    public InputWords B2;
    public InputWords B3;
    public InputWords C0;
    public InputWords C1;
    public InputWords C2;
    public InputWords C3;
}

/// <summary>Products of query rows with a page's keys to weights, as <see cref="TileWeights"/> does it where queries are columns.</summary>
internal static class RowWeights
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Parts that weights are entered in.</summary>
    public static int Parts<TValue, TColumns>()
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns =>
        (default(TValue).Arithmetic == TileArithmetic.BFloats ? 3 : 2) - default(TColumns).Joined;

    /// <summary>The largest number of each of a lane's two rows, over all their lanes.</summary>
    [MethodImpl(Inlined)]
    public static ScalePair Largest(ref RowSpan s)
    {
        ScalePair low = Largest(ref s.Low);
        ScalePair high = Largest(ref s.High);
        low.A = RowTiles.LargestOfColumns(Lane.Max(low.A, high.A));
        low.B = RowTiles.LargestOfColumns(Lane.Max(low.B, high.B));
        return low;
    }

    /// <summary>The sum of each of a lane's two rows, over this lane's tokens.</summary>
    [MethodImpl(Inlined)]
    public static ScalePair Sum(ref RowSpan s)
    {
        ScalePair low = Sum(ref s.Low);
        ScalePair high = Sum(ref s.High);
        low.A += high.A;
        low.B += high.B;
        return low;
    }

    /// <summary>Hides the tokens that a row does not see; <paramref name="first"/> is the position of the page's first token.</summary>
    [MethodImpl(Inlined)]
    public static void Mask(ref RowSpan s, RowQueries rows, int entry, int first, int window)
    {
        int token = first + (4 * (Group.IdxX & 3));
        RowMask a = RowMask.Of(rows.A, entry, token, window);
        RowMask b = RowMask.Of(rows.B, entry, token, window);
        Mask(ref s.Low.T0, a, b, 0);
        Mask(ref s.Low.T1, a, b, 1);
        Mask(ref s.Low.T2, a, b, 16);
        Mask(ref s.Low.T3, a, b, 17);
        Mask(ref s.High.T0, a, b, 32);
        Mask(ref s.High.T1, a, b, 33);
        Mask(ref s.High.T2, a, b, 48);
        Mask(ref s.High.T3, a, b, 49);
    }

    /// <summary>s = 2^(logit - largest + bias).</summary>
    [MethodImpl(Inlined)]
    public static void Weigh<TKey>(ref RowSpan s, RowQueries rows, float bias)
        where TKey : struct, IKeyTiles
    {
        Weigh<TKey>(ref s.Low.T0, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.Low.T1, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.Low.T2, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.Low.T3, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.High.T0, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.High.T1, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.High.T2, rows.A, rows.B, bias);
        Weigh<TKey>(ref s.High.T3, rows.A, rows.B, bias);
    }

    /// <summary>Enters weights in parts.</summary>
    [MethodImpl(Inlined)]
    public static void Enter<TValue, TColumns>(ref RowParts w, ref RowSpan p)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        Enter<TValue, TColumns>(ref w.A0, ref p.Low.T0, ref p.Low.T1, 0);
        Enter<TValue, TColumns>(ref w.A1, ref p.Low.T2, ref p.Low.T3, 0);
        Enter<TValue, TColumns>(ref w.A2, ref p.High.T0, ref p.High.T1, 0);
        Enter<TValue, TColumns>(ref w.A3, ref p.High.T2, ref p.High.T3, 0);
        if (Parts<TValue, TColumns>() > 1)
        {
            Enter<TValue, TColumns>(ref w.B0, ref p.Low.T0, ref p.Low.T1, 1);
            Enter<TValue, TColumns>(ref w.B1, ref p.Low.T2, ref p.Low.T3, 1);
            Enter<TValue, TColumns>(ref w.B2, ref p.High.T0, ref p.High.T1, 1);
            Enter<TValue, TColumns>(ref w.B3, ref p.High.T2, ref p.High.T3, 1);
        }

        if (Parts<TValue, TColumns>() > 2)
        {
            Enter<TValue, TColumns>(ref w.C0, ref p.Low.T0, ref p.Low.T1, 2);
            Enter<TValue, TColumns>(ref w.C1, ref p.Low.T2, ref p.Low.T3, 2);
            Enter<TValue, TColumns>(ref w.C2, ref p.High.T0, ref p.High.T1, 2);
            Enter<TValue, TColumns>(ref w.C3, ref p.High.T2, ref p.High.T3, 2);
        }
    }

    /// <summary>Enters weights times the scales of a plane, which begin at a word, and times a unit.</summary>
    [MethodImpl(Inlined)]
    public static void EnterScaled<TValue, TColumns>(ref RowParts w, ref RowSpan p, ArrayView<Words2> words, long first, float unit)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        ArrayView<Words2> scales = words.SubView((first / 2) + (Group.IdxX & 3));
        RowSpan scaled = default;
        Times(ref scaled.Low.T0, ref scaled.Low.T1, ref p.Low.T0, ref p.Low.T1, scales[0], unit);
        Times(ref scaled.Low.T2, ref scaled.Low.T3, ref p.Low.T2, ref p.Low.T3, scales[4], unit);
        Times(ref scaled.High.T0, ref scaled.High.T1, ref p.High.T0, ref p.High.T1, scales[8], unit);
        Times(ref scaled.High.T2, ref scaled.High.T3, ref p.High.T2, ref p.High.T3, scales[12], unit);
        Enter<TValue, TColumns>(ref w, ref scaled);
    }

    /// <summary>The largest scale of a page's plane; <paramref name="first"/> is the word of its first two.</summary>
    [MethodImpl(Inlined)]
    public static float LargestScale(ArrayView<Words2> words, long first)
    {
        ArrayView<Words2> scales = words.SubView((first / 2) + (Group.IdxX & 3));
        int most = Lane.MaxHalves(
            Lane.MaxHalves(Lane.MaxHalves(scales[0].X, scales[0].Y), Lane.MaxHalves(scales[4].X, scales[4].Y)),
            Lane.MaxHalves(Lane.MaxHalves(scales[8].X, scales[8].Y), Lane.MaxHalves(scales[12].X, scales[12].Y)));
        return RowTiles.LargestOfColumns(Lane.Max(Lane.LowHalf(most), Lane.HighHalf(most)));
    }

    /// <summary>sum = sum * scale + weights times the minima of a plane, over the lane's tokens.</summary>
    [MethodImpl(Inlined)]
    public static void AddMinima(ref ScalePair sum, ScalePair scale, ref RowSpan p, ArrayView<Words2> words, long first)
    {
        ArrayView<Words2> minima = words.SubView((first / 2) + (Group.IdxX & 3));
        sum.A *= scale.A;
        sum.B *= scale.B;
        AddMinima(ref sum, ref p.Low.T0, ref p.Low.T1, minima[0]);
        AddMinima(ref sum, ref p.Low.T2, ref p.Low.T3, minima[4]);
        AddMinima(ref sum, ref p.High.T0, ref p.High.T1, minima[8]);
        AddMinima(ref sum, ref p.High.T2, ref p.High.T3, minima[12]);
    }

    [MethodImpl(Inlined)]
    private static ScalePair Largest(ref RefTiles<float> s)
    {
        ScalePair most = default;
        most.A = Lane.Max(
            Lane.Max(Lane.Max(s.T0.A.Value, s.T0.B.Value), Lane.Max(s.T1.A.Value, s.T1.B.Value)),
            Lane.Max(Lane.Max(s.T2.A.Value, s.T2.B.Value), Lane.Max(s.T3.A.Value, s.T3.B.Value)));
        most.B = Lane.Max(
            Lane.Max(Lane.Max(s.T0.C.Value, s.T0.D.Value), Lane.Max(s.T1.C.Value, s.T1.D.Value)),
            Lane.Max(Lane.Max(s.T2.C.Value, s.T2.D.Value), Lane.Max(s.T3.C.Value, s.T3.D.Value)));
        return most;
    }

    [MethodImpl(Inlined)]
    private static ScalePair Sum(ref RefTiles<float> s)
    {
        ScalePair sum = default;
        sum.A = s.T0.A.Value + s.T0.B.Value + (s.T1.A.Value + s.T1.B.Value) + (s.T2.A.Value + s.T2.B.Value + (s.T3.A.Value + s.T3.B.Value));
        sum.B = s.T0.C.Value + s.T0.D.Value + (s.T1.C.Value + s.T1.D.Value) + (s.T2.C.Value + s.T2.D.Value + (s.T3.C.Value + s.T3.D.Value));
        return sum;
    }

    [MethodImpl(Inlined)]
    private static void Mask(ref RefTile<float> s, RowMask a, RowMask b, int token)
    {
        s.A = a.Hide(s.A.Value, token);
        s.B = a.Hide(s.B.Value, token + 2);
        s.C = b.Hide(s.C.Value, token);
        s.D = b.Hide(s.D.Value, token + 2);
    }

    [MethodImpl(Inlined)]
    private static void Weigh<TKey>(ref RefTile<float> s, ColumnState a, ColumnState b, float bias)
        where TKey : struct, IKeyTiles
    {
        s.A = TileWeights.Weight<TKey>(s.A.Value, a, bias);
        s.B = TileWeights.Weight<TKey>(s.B.Value, a, bias);
        s.C = TileWeights.Weight<TKey>(s.C.Value, b, bias);
        s.D = TileWeights.Weight<TKey>(s.D.Value, b, bias);
    }

    [MethodImpl(Inlined)]
    private static void Enter<TValue, TColumns>(ref InputWords w, ref RefTile<float> e, ref RefTile<float> o, int part)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        w.X = Part<TValue, TColumns>(e.A.Value, e.B.Value, part);
        w.Y = Part<TValue, TColumns>(e.C.Value, e.D.Value, part);
        w.Z = Part<TValue, TColumns>(o.A.Value, o.B.Value, part);
        w.W = Part<TValue, TColumns>(o.C.Value, o.D.Value, part);
    }

    [MethodImpl(Inlined)]
    private static int Part<TValue, TColumns>(float low, float high, int part)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        if (default(TValue).Arithmetic == TileArithmetic.BFloats)
        {
            return Lane.PackBFloats(QueryTiles.BFloat(low, part), QueryTiles.BFloat(high, part));
        }

        return Parts<TValue, TColumns>() == 1 ? Lane.PackHalves(low, high) : Lane.PackHalves(QueryTiles.Half(low, part), QueryTiles.Half(high, part));
    }

    [MethodImpl(Inlined)]
    private static void Times(ref RefTile<float> evenResult, ref RefTile<float> oddResult, ref RefTile<float> even, ref RefTile<float> odd, Words2 scales, float unit)
    {
        Times(ref evenResult, ref even, Lane.LowHalf(scales.X) * unit, Lane.LowHalf(scales.Y) * unit);
        Times(ref oddResult, ref odd, Lane.HighHalf(scales.X) * unit, Lane.HighHalf(scales.Y) * unit);
    }

    [MethodImpl(Inlined)]
    private static void Times(ref RefTile<float> result, ref RefTile<float> p, float first, float second)
    {
        result.A = p.A.Value * first;
        result.B = p.B.Value * second;
        result.C = p.C.Value * first;
        result.D = p.D.Value * second;
    }

    [MethodImpl(Inlined)]
    private static void AddMinima(ref ScalePair sum, ref RefTile<float> e, ref RefTile<float> o, Words2 minima)
    {
        float first = Lane.LowHalf(minima.X);
        float second = Lane.HighHalf(minima.X);
        float third = Lane.LowHalf(minima.Y);
        float fourth = Lane.HighHalf(minima.Y);
        sum.A = Lane.Fma(e.A.Value, first, Lane.Fma(o.A.Value, second, Lane.Fma(e.B.Value, third, Lane.Fma(o.B.Value, fourth, sum.A))));
        sum.B = Lane.Fma(e.C.Value, first, Lane.Fma(o.C.Value, second, Lane.Fma(e.D.Value, third, Lane.Fma(o.D.Value, fourth, sum.B))));
    }

    // The tokens of a page that a row sees, counted from the lane's first one.
    private struct RowMask
    {
        private int _first;
        private uint _count;

        [MethodImpl(Inlined)]
        public static RowMask Of(ColumnState row, int entry, int token, int window)
        {
            RowMask mask = default;
            int end = row.Position + 1 - token;
            mask._first = end > window ? end - window : 0;
            mask._count = end > 0 && entry >= row.Begin && entry < row.End ? (uint)(end - mask._first) : 0u;
            return mask;
        }

        [MethodImpl(Inlined)]
        public readonly float Hide(float x, int token) => (uint)(token - _first) < _count ? x : float.NegativeInfinity;
    }
}
