using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The weights of 64 tokens as B operands of mma: of each tile of 16 tokens two words for each part.</summary>
internal struct WeightParts
{
    public Words2 A0;
    public Words2 A1;
    public Words2 A2;
    public Words2 A3;
    public Words2 B0;
    public Words2 B1;
    public Words2 B2;
    public Words2 B3;
    public Words2 C0;
    public Words2 C1;
    public Words2 C2;
    public Words2 C3;
}

/// <summary>A number for each of a lane's two columns.</summary>
internal struct ScalePair
{
    public float A;
    public float B;
}

/// <summary>Where the tokens of a page end that may be read: those behind are read as the last one, as anything lies there, also NaN.</summary>
internal struct TokenCut
{
    /// <summary>False for a whole page.</summary>
    public bool IsCut;

    /// <summary>The lane's first token.</summary>
    public int First;

    /// <summary>The last token that may be read.</summary>
    public int Last;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TokenCut At(int seen, int quad)
    {
        TokenCut cut = default;
        cut.IsCut = true;
        cut.First = 4 * quad;
        cut.Last = seen - 1;
        return cut;
    }
}

/// <summary>What a lane needs to read the values of any page.</summary>
internal struct ValuesOfLane
{
    /// <summary>The lane's word of the first of its four tokens.</summary>
    public int First;

    /// <summary>What offsets are taken away by, as binary16 numbers: -128 and -127 times 2^-24, of levels -255 times 2^-24 for both, as twice 127.5.</summary>
    public Words4 Offsets;

    /// <summary>What rows of even tokens are turned by.</summary>
    public OffsetWords Even;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ValuesOfLane At<TValue>(int first)
        where TValue : struct, IValueTiles
    {
        int zero = Lane.Zero();
        bool isLevel = default(TValue).Offset == ValueOffset.Level;
        int even = (isLevel ? unchecked((int)0x80FF80FF) : unchecked((int)0x80808080)) + zero;
        int odd = isLevel ? even : unchecked((int)0x807F807F) + zero;
        ValuesOfLane lane = default;
        lane.First = first;
        lane.Offsets = KeyOperands.Of(even, even, odd, odd);
        lane.Even = OffsetWords.Of(default(TValue).Turn.X + zero, default(TValue).Turn.Y + zero);
        return lane;
    }
}

/// <summary>What weights may be at most, by the values' scales so far. The same in all lanes.</summary>
internal struct WeightShift
{
    /// <summary>The largest scale so far.</summary>
    public float Largest;

    /// <summary>The logarithm of the largest weight.</summary>
    public float Exponent;
}

/// <summary>Weighted sums of a page's values, and the sums over all pages, which lie in shared memory, a place for each lane.</summary>
internal static class TileOutput
{
    /// <summary>The unit of sums before the first page: more than any page's (<see cref="TensorPrefill"/>).</summary>
    public const float FirstUnit = 1.09951163e12f; // 2^40

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Words of a value.</summary>
    public static int ValueWords<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape => default(TValue).Words(default(TShape).ValueWidth);

    /// <summary>True if some lanes have no words of the last load.</summary>
    public static bool HasTail<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape => ValueWords<TValue, TShape>() % default(TValue).LoadWords != 0;

    /// <summary>The first word of lane g in a value; with a tail it depends on the load, and no index may be negative: ILGPU widens it as if it were unsigned.</summary>
    [MethodImpl(Inlined)]
    public static int LaneWord<TValue, TShape>(int g)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape => HasTail<TValue, TShape>() ? 0 : default(TValue).LaneWord(g);

    /// <summary>Loads of a token's values.</summary>
    public static int Loads<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape =>
        default(TValue).Loads(default(TShape).ValueWidth);

    /// <summary>Floats4 of a lane that one load's sums take: with four queries two tiles share one.</summary>
    public static int LoadPlaces<TValue, TColumns>()
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns =>
        (default(TValue).Tiles + default(TColumns).TilesOfPlace - 1) / default(TColumns).TilesOfPlace;

    /// <summary>Floats4 of a lane: its sums, then where values have minima two groups' sums of weighted minima in each.</summary>
    public static int Places<TValue, TColumns, TShape>()
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape =>
        (Loads<TValue, TShape>() * LoadPlaces<TValue, TColumns>()) + default(TValue).Groups(default(TShape).ValueWidth);

    /// <summary>Sets all sums to 0.</summary>
    [MethodImpl(Inlined)]
    public static void Clear<TValue, TColumns, TShape>(ArrayView<Floats4> sums)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        Floats4 zero = default;
        for (int i = 0; i < Places<TValue, TColumns, TShape>(); i++)
        {
            sums[i * 32] = zero;
        }
    }

    /// <summary>
    /// sums = sums * scale + V^T P^T over 64 tokens.
    /// </summary>
    /// <param name="page">The page.</param>
    /// <param name="lane">Where the lane reads.</param>
    /// <param name="sums">The lane's sums.</param>
    /// <param name="p">The weights.</param>
    /// <param name="scale">Factors of the sums so far: of the lane's first column, and of its second.</param>
    /// <param name="cut">Which tokens may be read.</param>
    [MethodImpl(Inlined)]
    public static void Add<TValue, TColumns, TShape>(
        PageWords page, ValuesOfLane lane, ArrayView<Floats4> sums, Span64 p, ScalePair scale, TokenCut cut)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int first = lane.First + ((page.Span - cut.First) * ValueWords<TValue, TShape>());
        LoadTurn<TValue, TColumns, TShape> turn = default;
        turn.Values.One = page.Words.One.SubView(first);
        turn.Values.Two = page.Words.Two.SubView(first / 2);
        turn.Values.Four = page.Words.Four.SubView(first / 4);
        turn.Sums = sums;
        turn.Cut = cut;
        turn.Offsets = lane.Offsets;
        turn.Even = lane.Even;
        turn.Scale = scale;
        if (default(TValue).Scales == Scaling.None)
        {
            turn.Enter(p);
        }
        else
        {
            // Weights take the values' scales.
            turn.Plain = p;
            turn.Page = page;
            if (default(TValue).Scales == Scaling.Vector)
            {
                turn.EnterScaled(0);
            }
        }

        default(TShape).Values(ref turn);
    }

    /// <summary>Lowers the shift of weights where a page's scales are larger than any before, so that weights times them stay below 2^14.</summary>
    [MethodImpl(Inlined)]
    public static void Shift<TValue, TShape>(PageWords page, ref WeightShift shift)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        int most = TileScales.Largest(TileScales.Load<TShape>(page, page.Map.ValueScales, 0));
        for (int group = 1; default(TValue).Scales == Scaling.Group && group < default(TValue).Groups(default(TShape).ValueWidth); group++)
        {
            most = Lane.MaxHalves(most, TileScales.Largest(TileScales.Load<TShape>(page, page.Map.ValueScales, group * default(TShape).PageTokens)));
        }

        float own = Lane.Max(Lane.LowHalf(most), Lane.HighHalf(most));
        if (Lane.AnyAbove(own, shift.Largest) != 0)
        {
            shift.Largest = Lane.LargestOfRows(own);
            shift.Exponent = TileScales.Shift(shift.Largest);
        }
    }

    /// <summary>Writes the means of the values: sums over the sums of their weights.</summary>
    [MethodImpl(Inlined)]
    public static void Write<TValue, TColumns, TShape>(
        ArrayView<float> partials, long first, ArrayView<Floats4> sums, float sumA, float sumB)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int g = (Group.IdxX & 31) >> 2;
        int quad = Group.IdxX & 3;
        float inverse = default(TValue).Scales == Scaling.None ? 1f : default(TValue).Step;
        float factorA = sumA > 0f ? inverse / sumA : 0f;
        float factorB = sumB > 0f ? inverse / sumB : 0f;
        long rowA = first + ((default(TColumns).Count == 8 ? 2 * quad : quad) * default(TShape).ValueWidth);
        for (int load = 0; load < Loads<TValue, TShape>(); load++)
        {
            ScalePair low = default;
            if (default(TValue).Scales == Scaling.Group)
            {
                int group = load * 16 * default(TValue).Tiles / default(TValue).GroupElements(default(TShape).ValueWidth);
                Floats4 minima = sums[((Loads<TValue, TShape>() * LoadPlaces<TValue, TColumns>()) + group) * 32];
                low.A = Lane.SumOfRows(minima.A) / sumA;
                low.B = default(TColumns).Count == 8 ? Lane.SumOfRows(minima.B) / sumB : 0f;
            }

            for (int tile = 0; tile < default(TValue).Tiles; tile++)
            {
                Floats4 o = sums[((load * LoadPlaces<TValue, TColumns>()) + (tile / default(TColumns).TilesOfPlace)) * 32];
                int even = default(TValue).Element(load, g, tile, 0);
                int odd = default(TValue).Element(load, g, tile, 1);
                float evenFactor = default(TValue).Factor(0);
                float oddFactor = default(TValue).Factor(1);
                if (default(TColumns).Count == 8)
                {
                    Put<TValue, TShape>(partials, rowA, even, (o.A * evenFactor * factorA) + low.A);
                    Put<TValue, TShape>(partials, rowA, odd, (o.C * oddFactor * factorA) + low.A);
                    Put<TValue, TShape>(partials, rowA + default(TShape).ValueWidth, even, (o.B * evenFactor * factorB) + low.B);
                    Put<TValue, TShape>(partials, rowA + default(TShape).ValueWidth, odd, (o.D * oddFactor * factorB) + low.B);
                }
                else
                {
                    bool isSecond = (tile & 1) != 0;
                    Put<TValue, TShape>(partials, rowA, even, ((isSecond ? o.C : o.A) * evenFactor * factorA) + low.A);
                    Put<TValue, TShape>(partials, rowA, odd, ((isSecond ? o.D : o.B) * oddFactor * factorA) + low.A);
                }
            }
        }
    }

    /// <summary>Enters the weights of a tile of 16 tokens in parts, tokens as columns of each row turned into rows.</summary>
    [MethodImpl(Inlined)]
    public static void Enter<TValue, TColumns>(Floats4 w, ref Words2 a, ref Words2 b, ref Words2 c)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        if (default(TValue).Arithmetic == TileArithmetic.Halves)
        {
            if (default(TColumns).Count == 8)
            {
                a.X = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.A, 0), QueryTiles.Half(w.B, 0)));
                a.Y = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.C, 0), QueryTiles.Half(w.D, 0)));
                b.X = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.A, 1), QueryTiles.Half(w.B, 1)));
                b.Y = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.C, 1), QueryTiles.Half(w.D, 1)));
            }
            else
            {
                a.X = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.A, 0), QueryTiles.Half(w.A, 1)));
                a.Y = Lane.Transpose(Lane.PackHalves(QueryTiles.Half(w.C, 0), QueryTiles.Half(w.C, 1)));
            }
        }
        else if (default(TColumns).Count == 8)
        {
            a.X = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.A, 0), QueryTiles.BFloat(w.B, 0)));
            a.Y = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.C, 0), QueryTiles.BFloat(w.D, 0)));
            b.X = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.A, 1), QueryTiles.BFloat(w.B, 1)));
            b.Y = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.C, 1), QueryTiles.BFloat(w.D, 1)));
            c.X = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.A, 2), QueryTiles.BFloat(w.B, 2)));
            c.Y = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.C, 2), QueryTiles.BFloat(w.D, 2)));
        }
        else
        {
            a.X = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.A, 0), QueryTiles.BFloat(w.A, 1)));
            a.Y = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.C, 0), QueryTiles.BFloat(w.C, 1)));
            b.X = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.A, 2), 0f));
            b.Y = Lane.Transpose(Lane.PackBFloats(QueryTiles.BFloat(w.C, 2), 0f));
        }
    }

    /// <summary>Writes an element of a mean, if there is such an element.</summary>
    [MethodImpl(Inlined)]
    public static void Put<TValue, TShape>(ArrayView<float> partials, long row, int element, float mean)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        if (element < default(TShape).ValueWidth)
        {
            // A rounding must not take a mean of the largest numbers beyond binary32.
            float bounded = mean > PortableMath.AlmostLargest ? PortableMath.AlmostLargest : mean;
            bounded = bounded < -PortableMath.AlmostLargest ? -PortableMath.AlmostLargest : bounded;
            partials[row + element] = default(TValue).Arithmetic == TileArithmetic.BFloats ? bounded : mean;
        }
    }
}
