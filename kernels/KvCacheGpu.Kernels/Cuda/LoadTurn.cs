using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>O^T += V^T P^T for the elements of one load of each token.</summary>
internal struct LoadTurn<TValue, TColumns, TShape> : ITurn
    where TValue : struct, IValueTiles
    where TColumns : struct, IQueryColumns
    where TShape : struct, ITensorShape
{
    public WordViews Values;
    public ArrayView<Floats4> Sums;
    public ScalePair Scale;
    public TokenCut Cut;
    public Words4 Offsets;
    public OffsetWords Even;

    /// <summary>Of values with scales: weights before they take them, and the page.</summary>
    public Span64 Plain;
    public PageWords Page;

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    private WeightParts _weights;

    /// <summary>Enters weights in parts.</summary>
    [MethodImpl(Inlined)]
    public void Enter(Span64 p)
    {
        TileOutput.Enter<TValue, TColumns>(p.T0, ref _weights.A0, ref _weights.B0, ref _weights.C0);
        TileOutput.Enter<TValue, TColumns>(p.T1, ref _weights.A1, ref _weights.B1, ref _weights.C1);
        TileOutput.Enter<TValue, TColumns>(p.T2, ref _weights.A2, ref _weights.B2, ref _weights.C2);
        TileOutput.Enter<TValue, TColumns>(p.T3, ref _weights.A3, ref _weights.B3, ref _weights.C3);
        if (default(TValue).Offset != ValueOffset.None)
        {
            default(SumTile4).Clear();
            Multiply<SumTile4>(Offsets, _weights.A0, _weights.B0, _weights.C0);
            Multiply<SumTile4>(Offsets, _weights.A1, _weights.B1, _weights.C1);
            Multiply<SumTile4>(Offsets, _weights.A2, _weights.B2, _weights.C2);
            Multiply<SumTile4>(Offsets, _weights.A3, _weights.B3, _weights.C3);
            if (default(TValue).Offset == ValueOffset.Level)
            {
                SumTiles.Halve4();
            }
        }
    }

    /// <summary>Enters weights times the scales of a plane.</summary>
    [MethodImpl(Inlined)]
    public void EnterScaled(int plane)
    {
        Words4 scales = TileScales.Load<TShape>(Page, Page.Map.ValueScales, plane * (default(TShape).PageTokens / 2));
        Span64 p = default;
        p.T0 = TileScales.Times<TValue>(Plain.T0, scales.X);
        p.T1 = TileScales.Times<TValue>(Plain.T1, scales.Y);
        p.T2 = TileScales.Times<TValue>(Plain.T2, scales.Z);
        p.T3 = TileScales.Times<TValue>(Plain.T3, scales.W);
        Enter(p);
    }

    [MethodImpl(Inlined)]
    public void Take(int i)
    {
        if (default(TValue).Scales == Scaling.Group)
        {
            int elements = default(TValue).GroupElements(default(TShape).ValueWidth);
            if (i * 16 * default(TValue).Tiles % elements == 0)
            {
                BeginGroup(i * 16 * default(TValue).Tiles / elements);
            }
        }

        Begin<SumTile0>();
        if (default(TValue).Tiles > 1)
        {
            Begin<SumTile1>();
        }

        if (default(TValue).Tiles > 2)
        {
            Begin<SumTile2>();
            Begin<SumTile3>();
        }

        Tile(i, 0, _weights.A0, _weights.B0, _weights.C0);
        Tile(i, 1, _weights.A1, _weights.B1, _weights.C1);
        Tile(i, 2, _weights.A2, _weights.B2, _weights.C2);
        Tile(i, 3, _weights.A3, _weights.B3, _weights.C3);
        int at = i * TileOutput.LoadPlaces<TValue, TColumns>() * 32;
        if (default(TColumns).Count == 8)
        {
            Fold(at, default(SumTile0).Take());
            if (default(TValue).Tiles > 1)
            {
                Fold(at + 32, default(SumTile1).Take());
            }

            if (default(TValue).Tiles > 2)
            {
                Fold(at + 64, default(SumTile2).Take());
                Fold(at + 96, default(SumTile3).Take());
            }
        }
        else
        {
            Fold(at, Joined(default(SumTile0).Take(), default(SumTile1).Take()));
            if (default(TValue).Tiles > 2)
            {
                Fold(at + 32, Joined(default(SumTile2).Take(), default(SumTile3).Take()));
            }
        }
    }

    // The weights of a group of elements with a scale of their own, and the weighted minima.
    [MethodImpl(Inlined)]
    private void BeginGroup(int group)
    {
        EnterScaled(2 * group);
        Words4 minima = TileScales.Load<TShape>(Page, Page.Map.ValueScales, ((2 * group) + 1) * (default(TShape).PageTokens / 2));
        int at = ((TileOutput.Loads<TValue, TShape>() * TileOutput.LoadPlaces<TValue, TColumns>()) + group) * 32;
        Floats4 sums = Sums[at];
        ScalePair low = default;
        low.A = sums.A * Scale.A;
        low.B = default(TColumns).Count == 8 ? sums.B * Scale.B : 0f;
        TileScales.AddMinima<TColumns>(ref low, Plain.T0, minima.X);
        TileScales.AddMinima<TColumns>(ref low, Plain.T1, minima.Y);
        TileScales.AddMinima<TColumns>(ref low, Plain.T2, minima.Z);
        TileScales.AddMinima<TColumns>(ref low, Plain.T3, minima.W);
        sums.A = low.A;
        sums.B = low.B;
        Sums[at] = sums;
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
    private readonly void Fold(int at, Floats4 o)
    {
        float second = default(TColumns).Count == 8 ? Scale.B : Scale.A;
        Floats4 s = Sums[at];
        s.A = Lane.Fma(s.A, Scale.A, o.A);
        s.B = Lane.Fma(s.B, second, o.B);
        s.C = Lane.Fma(s.C, Scale.A, o.C);
        s.D = Lane.Fma(s.D, second, o.D);
        Sums[at] = s;
    }

    [MethodImpl(Inlined)]
    private readonly void Tile(int load, int tile, Words2 a, Words2 b, Words2 c)
    {
        TValue codec = default;
        Words4 w0 = codec.Load(Values, Word(load, tile, 0), load);
        Words4 w1 = codec.Load(Values, Word(load, tile, 2), load);
        Words4 w2 = codec.Load(Values, Word(load, tile, 1), load);
        Words4 w3 = codec.Load(Values, Word(load, tile, 3), load);
        Multiply<SumTile0>(Joined(codec.Rows0(w0, w1, Even), codec.Rows0(w2, w3, Even.Odd)), a, b, c);
        if (codec.Tiles > 1)
        {
            Multiply<SumTile1>(Joined(codec.Rows1(w0, w1, Even), codec.Rows1(w2, w3, Even.Odd)), a, b, c);
        }

        if (codec.Tiles > 2)
        {
            Multiply<SumTile2>(Joined(codec.Rows2(w0, w1, Even), codec.Rows2(w2, w3, Even.Odd)), a, b, c);
            Multiply<SumTile3>(Joined(codec.Rows3(w0, w1, Even), codec.Rows3(w2, w3, Even.Odd)), a, b, c);
        }
    }

    // Sums begin at what the offsets leave.
    [MethodImpl(Inlined)]
    private static void Begin<TTile>()
        where TTile : struct, ISumTile
    {
        if (default(TValue).Offset != ValueOffset.None)
        {
            default(TTile).Copy4();
        }
        else
        {
            default(TTile).Clear();
        }
    }

    [MethodImpl(Inlined)]
    private static Words4 Joined(Words2 even, Words2 odd) => KeyOperands.Of(even.X, even.Y, odd.X, odd.Y);

    // Words from the lane's first token to its token i of a tile: rows 2 q and 2 q + 1 of P are tokens 0 and 2 (rows g of two lanes), rows 2 q + 8 and 2 q + 9 tokens 1 and 3.
    [MethodImpl(Inlined)]
    private readonly int Word(int load, int tile, int i)
    {
        int token = TokenOrder.ReadTile<TShape>(tile) + (i & 1) + ((i >> 1) * TokenOrder.Lane<TShape>());
        if (Cut.IsCut)
        {
            // No index may be negative: ILGPU widens it as if it were unsigned.
            token += Cut.First;
            token = token < Cut.Last ? token : Cut.Last;
        }

        int words = TileOutput.ValueWords<TValue, TShape>();
        int word = default(TValue).FirstWord(load);
        if (TileOutput.HasTail<TValue, TShape>())
        {
            // Lanes behind the last word read it; what they sum is nobody's.
            int g = (Group.IdxX & 31) >> 2;
            int behind = word + default(TValue).LaneEnd(g) - words;
            word += default(TValue).LaneWord(g);
            word -= behind > 0 ? behind : 0;
        }

        return (token * words) + word;
    }

    [MethodImpl(Inlined)]
    private static void Multiply<TTile>(Words4 v, Words2 a, Words2 b, Words2 c)
        where TTile : struct, ISumTile
    {
        if (default(TValue).Arithmetic == TileArithmetic.Halves)
        {
            default(TTile).AddHalves(v, a);
            if (default(TColumns).Count == 8)
            {
                default(TTile).AddHalves(v, b);
            }
        }
        else
        {
            default(TTile).AddBFloats(v, a);
            default(TTile).AddBFloats(v, b);
            if (default(TColumns).Count == 8)
            {
                default(TTile).AddBFloats(v, c);
            }
        }
    }
}
