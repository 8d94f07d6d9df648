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

/// <summary>Weighted sums of a page's values, and the sums over all pages, which lie in shared memory, a place for each lane.</summary>
internal static class TileOutput
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Loads of a token's values.</summary>
    public static int Loads<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape =>
        (default(TShape).ValueWidth + (16 * default(TValue).Tiles) - 1) / (16 * default(TValue).Tiles);

    /// <summary>Floats4 of a lane that one load's sums take: with four queries two tiles share one.</summary>
    public static int Slots<TValue, TColumns>()
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns =>
        (default(TValue).Tiles + default(TColumns).TilesOfPlace - 1) / default(TColumns).TilesOfPlace;

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

    /// <summary>
    /// sums = sums * scale + V^T P^T over 64 tokens. <paramref name="values"/> begins at the lane's word of the first of its four tokens.
    /// </summary>
    /// <param name="values">The values.</param>
    /// <param name="sums">The lane's sums.</param>
    /// <param name="p">The weights.</param>
    /// <param name="scale">Factors of the sums so far: of the lane's first column, and of its second.</param>
    /// <param name="cut">Which tokens may be read.</param>
    [MethodImpl(Inlined)]
    public static void Add<TValue, TColumns, TShape>(WordViews values, ArrayView<Floats4> sums, WeightParts p, ScalePair scale, TokenCut cut)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        LoadTurn<TValue, TColumns, TShape> turn = default;
        turn.Values = values;
        turn.Sums = sums;
        turn.Weights = p;
        turn.Scale = scale;
        turn.Cut = cut;
        default(TShape).Values(ref turn);
    }

    private struct LoadTurn<TValue, TColumns, TShape> : ITurn
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public WordViews Values;
        public ArrayView<Floats4> Sums;
        public WeightParts Weights;
        public ScalePair Scale;
        public TokenCut Cut;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            Span64 o = default;
            int load = i * default(TValue).LoadWords;
            Tile<TValue, TColumns, TShape>(ref o, Values, load, 0, Weights.A0, Weights.B0, Weights.C0, Cut);
            Tile<TValue, TColumns, TShape>(ref o, Values, load, 1, Weights.A1, Weights.B1, Weights.C1, Cut);
            Tile<TValue, TColumns, TShape>(ref o, Values, load, 2, Weights.A2, Weights.B2, Weights.C2, Cut);
            Tile<TValue, TColumns, TShape>(ref o, Values, load, 3, Weights.A3, Weights.B3, Weights.C3, Cut);
            int at = i * Slots<TValue, TColumns>() * 32;
            if (default(TColumns).Count == 8)
            {
                Fold(Sums, at, o.T0, Scale);
                if (default(TValue).Tiles > 1)
                {
                    Fold(Sums, at + 32, o.T1, Scale);
                }

                if (default(TValue).Tiles > 2)
                {
                    Fold(Sums, at + 64, o.T2, Scale);
                    Fold(Sums, at + 96, o.T3, Scale);
                }
            }
            else
            {
                Fold(Sums, at, Joined(o.T0, o.T1), Scale);
                if (default(TValue).Tiles > 2)
                {
                    Fold(Sums, at + 32, Joined(o.T2, o.T3), Scale);
                }
            }
        }
    }

    // The parts of four queries, joined: two tiles in one.
    [MethodImpl(Inlined)]
    private static Floats4 Joined(Floats4 a, Floats4 b)
    {
        Floats4 both = default;
        both.A = a.A + a.B;
        both.B = a.C + a.D;
        both.C = b.A + b.B;
        both.D = b.C + b.D;
        return both;
    }

    [MethodImpl(Inlined)]
    private static void Fold(ArrayView<Floats4> sums, int at, Floats4 o, ScalePair scale)
    {
        Floats4 s = sums[at];
        s.A = Lane.Fma(s.A, scale.A, o.A);
        s.B = Lane.Fma(s.B, scale.B, o.B);
        s.C = Lane.Fma(s.C, scale.A, o.C);
        s.D = Lane.Fma(s.D, scale.B, o.D);
        sums[at] = s;
    }

    [MethodImpl(Inlined)]
    private static void Tile<TValue, TColumns, TShape>(ref Span64 o, WordViews values, int load, int tile, Words2 a, Words2 b, Words2 c, TokenCut cut)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        TValue codec = default;
        Words4 w0 = codec.Load(values, load + Token<TValue, TShape>(tile, 0, cut));
        Words4 w1 = codec.Load(values, load + Token<TValue, TShape>(tile, 2, cut));
        Words4 w2 = codec.Load(values, load + Token<TValue, TShape>(tile, 1, cut));
        Words4 w3 = codec.Load(values, load + Token<TValue, TShape>(tile, 3, cut));
        Multiply<TValue, TColumns>(ref o.T0, codec.Rows(w0, w1, 0), codec.Rows(w2, w3, 0), a, b, c);
        if (codec.Tiles > 1)
        {
            Multiply<TValue, TColumns>(ref o.T1, codec.Rows(w0, w1, 1), codec.Rows(w2, w3, 1), a, b, c);
        }

        if (codec.Tiles > 2)
        {
            Multiply<TValue, TColumns>(ref o.T2, codec.Rows(w0, w1, 2), codec.Rows(w2, w3, 2), a, b, c);
            Multiply<TValue, TColumns>(ref o.T3, codec.Rows(w0, w1, 3), codec.Rows(w2, w3, 3), a, b, c);
        }
    }

    // Words from the lane's first token to its token i of a tile: row 2 q of P is token 4 q, row 2 q + 1 token 4 q + 2, row 2 q + 8 token 4 q + 1, row 2 q + 9 token 4 q + 3.
    [MethodImpl(Inlined)]
    private static int Token<TValue, TShape>(int tile, int i, TokenCut cut)
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape
    {
        int token = (16 * tile < default(TShape).PageTokens ? 16 * tile : 0) + i;
        if (cut.IsCut)
        {
            token = token < cut.Last ? token : cut.Last;
        }

        return token * ValueWords<TValue, TShape>();
    }

    /// <summary>Words of a value.</summary>
    public static int ValueWords<TValue, TShape>()
        where TValue : struct, IValueTiles
        where TShape : struct, ITensorShape => default(TValue).Words(default(TShape).ValueWidth);

    [MethodImpl(Inlined)]
    private static void Multiply<TValue, TColumns>(ref Floats4 o, Words2 even, Words2 odd, Words2 a, Words2 b, Words2 c)
        where TValue : struct, IValueTiles
        where TColumns : struct, IQueryColumns
    {
        Words4 v = KeyOperands.Of(even.X, even.Y, odd.X, odd.Y);
        if (default(TValue).Arithmetic == TileArithmetic.Halves)
        {
            Lane.MultiplyHalves(ref o, v, a.X, a.Y);
            if (default(TColumns).Count == 8)
            {
                Lane.MultiplyHalves(ref o, v, b.X, b.Y);
            }
        }
        else
        {
            Lane.MultiplyBFloats(ref o, v, a.X, a.Y);
            Lane.MultiplyBFloats(ref o, v, b.X, b.Y);
            if (default(TColumns).Count == 8)
            {
                Lane.MultiplyBFloats(ref o, v, c.X, c.Y);
            }
        }
    }
}

/// <summary>Where the tokens of a page end that may be read: those behind are read as the last one, as anything lies there, also NaN.</summary>
internal struct TokenCut
{
    /// <summary>False for a whole page.</summary>
    public bool IsCut;

    /// <summary>The last token, counted from the lane's first one.</summary>
    public int Last;
}

/// <summary>A number for each of a lane's two columns.</summary>
internal struct ScalePair
{
    public float A;
    public float B;
}
