using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The products of a block's queries with 64 keys of a page.</summary>
internal static class TileLogits
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>
    /// S^T = K Q^T, in units of each column's factor.
    /// </summary>
    /// <param name="page">The page.</param>
    /// <param name="lane">Where and how the lane reads.</param>
    /// <param name="queries">The lane's query parts.</param>
    /// <param name="a">The lane's first column.</param>
    /// <param name="b">Its second column.</param>
    [MethodImpl(Inlined)]
    public static Span64 Of<TKey, TColumns, TShape>(PageWords page, KeysOfLane lane, ArrayView<Words2> queries, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int first = lane.First + (page.Span / TokenOrder.Lane<TShape>());
        if (default(TKey).Arithmetic != TileArithmetic.Bytes)
        {
            HalfTurn<TKey, TColumns, TShape> turn = default;
            turn.Keys = page.Words.Two.SubView(first);
            turn.Queries = queries;
            default(SumTile0).Clear();
            default(SumTile1).Clear();
            default(SumTile2).Clear();
            default(SumTile3).Clear();
            default(TShape).Keys(ref turn);
            Span64 logits = default;
            logits.T0 = Joined<TColumns>(default(SumTile0).Take());
            logits.T1 = Joined<TColumns>(default(SumTile1).Take());
            logits.T2 = Joined<TColumns>(default(SumTile2).Take());
            logits.T3 = Joined<TColumns>(default(SumTile3).Take());
            return logits;
        }

        ScalePair mean = default;
        if (default(TKey).Scales == Scaling.Gain)
        {
            mean = MeanProducts<TKey, TColumns, TShape>(page, queries, a, b);
        }

        Words2 levels = default;
        levels.X = lane.LevelsX;
        levels.Y = lane.LevelsY;
        IntTile starts = default;
        starts.A = lane.StartA;
        starts.B = lane.StartB;
        starts.C = lane.StartC;
        starts.D = lane.StartD;

        // Two tiles at a time: three sums of whole numbers take three times the registers.
        ByteTurn<TKey, TColumns, TShape, N0> low = default;
        low.Pairs = page.Words.Two.SubView(first);
        low.Quads = page.Words.Four.SubView(first);
        low.Queries = queries;
        low.Levels = levels;
        Start<TKey, TColumns>(starts);
        default(TShape).Keys(ref low);
        Words4 scales = TileScales.Load<TShape>(page, page.Map.KeyScales, 0);
        Words4 gains = default(TKey).Scales == Scaling.Gain ? TileScales.Load<TShape>(page, page.Map.KeyScales, default(TShape).PageTokens / 2) : default;
        Span64 s = default;
        s.T0 = Join<TKey, TColumns, TShape>(scales.X, gains.X, default(WholeTile0).Take(), Middle<TColumns, WholeTile2>(), default(WholeTile4).Take(), mean);
        s.T1 = Join<TKey, TColumns, TShape>(scales.Y, gains.Y, default(WholeTile1).Take(), Middle<TColumns, WholeTile3>(), default(WholeTile5).Take(), mean);
        ByteTurn<TKey, TColumns, TShape, N2> high = default;
        high.Pairs = low.Pairs;
        high.Quads = low.Quads;
        high.Queries = queries;
        high.Levels = levels;
        Start<TKey, TColumns>(starts);
        default(TShape).Keys(ref high);
        s.T2 = Join<TKey, TColumns, TShape>(scales.Z, gains.Z, default(WholeTile0).Take(), Middle<TColumns, WholeTile2>(), default(WholeTile4).Take(), mean);
        s.T3 = Join<TKey, TColumns, TShape>(scales.W, gains.W, default(WholeTile1).Take(), Middle<TColumns, WholeTile3>(), default(WholeTile5).Take(), mean);
        return s;
    }

    // With four queries the two parts of one lie in neighbouring columns.
    [MethodImpl(Inlined)]
    private static Floats4 Joined<TColumns>(Floats4 s)
        where TColumns : struct, IQueryColumns
    {
        if (default(TColumns).Count == 4)
        {
            s.A += s.B;
            s.C += s.D;
        }

        return s;
    }

    private struct HalfTurn<TKey, TColumns, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public ArrayView<Words2> Keys;
        public ArrayView<Words2> Queries;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            KeyWords k0 = KeyLoads.Load<TKey, TShape>(Keys, i, 0);
            KeyWords k1 = KeyLoads.Load<TKey, TShape>(Keys, i, 1);
            KeyWords k2 = KeyLoads.Load<TKey, TShape>(Keys, i, 2);
            KeyWords k3 = KeyLoads.Load<TKey, TShape>(Keys, i, 3);
            int parts = QueryTiles.Parts<TKey, TColumns>();
            Words4 a0 = default(TKey).Operand(k0, 0, default);
            Words4 a1 = default(TKey).Operand(k1, 0, default);
            Words4 a2 = default(TKey).Operand(k2, 0, default);
            Words4 a3 = default(TKey).Operand(k3, 0, default);
            Part(a0, a1, a2, a3, Queries[i * parts * 32]);
            if (parts > 1)
            {
                Part(a0, a1, a2, a3, Queries[((i * parts) + 1) * 32]);
            }

            if (parts > 2)
            {
                Part(a0, a1, a2, a3, Queries[((i * parts) + 2) * 32]);
            }
        }

        [MethodImpl(Inlined)]
        private static void Part(Words4 a0, Words4 a1, Words4 a2, Words4 a3, Words2 q)
        {
            Multiply<TKey, SumTile0>(a0, q);
            Multiply<TKey, SumTile1>(a1, q);
            Multiply<TKey, SumTile2>(a2, q);
            Multiply<TKey, SumTile3>(a3, q);
        }
    }

    // Of two tiles, from TFirst on, the sums of a query's three limbs: WholeTile0 and 1 of the highest, 2 and 3 of the middle one, 4 and 5 of the lowest. With four
    // queries the columns of the middle limb are those of the highest.
    private struct ByteTurn<TKey, TColumns, TShape, TFirst> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
        where TFirst : struct, INumber
    {
        public ArrayView<Words2> Pairs;
        public ArrayView<Words4> Quads;
        public ArrayView<Words2> Queries;
        public Words2 Levels;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            KeyWords k0 = default;
            KeyWords k1 = default;
            if (default(TShape).IsQuads)
            {
                KeyPlace place = KeyLoads.Place<TKey, TShape>(i, default(TFirst).Value);
                Split(Quads[place.At / 4], ref k0.A, ref k1.A);
                if (default(TKey).Loads > 1)
                {
                    Split(Quads[(place.At + place.More) / 4], ref k0.B, ref k1.B);
                }

                if (default(TKey).Loads > 2)
                {
                    Split(Quads[(place.At + (2 * place.More)) / 4], ref k0.C, ref k1.C);
                }
            }
            else
            {
                k0 = KeyLoads.Load<TKey, TShape>(Pairs, i, default(TFirst).Value);
                k1 = KeyLoads.Load<TKey, TShape>(Pairs, i, default(TFirst).Value + 1);
            }

            Step(k0, k1, i * default(TKey).Steps, 0);
            if (default(TKey).Steps > 1)
            {
                Step(k0, k1, i * default(TKey).Steps, 1);
            }

            if (default(TKey).Steps > 2)
            {
                Step(k0, k1, i * default(TKey).Steps, 2);
                Step(k0, k1, i * default(TKey).Steps, 3);
            }
        }

        // Words of four tokens: two for each tile.
        [MethodImpl(Inlined)]
        private static void Split(Words4 words, ref Words2 first, ref Words2 second)
        {
            first.X = words.X;
            first.Y = words.Y;
            second.X = words.Z;
            second.Y = words.W;
        }

        [MethodImpl(Inlined)]
        private readonly void Step(KeyWords k0, KeyWords k1, int first, int step)
        {
            Words4 a0 = default(TKey).Operand(k0, step, Levels);
            Words4 a1 = default(TKey).Operand(k1, step, Levels);
            int at = (first + step) * QueryTiles.Parts<TKey, TColumns>() * 32;
            Words2 q = Queries[at];
            default(WholeTile0).Add(a0, q);
            default(WholeTile1).Add(a1, q);
            q = Queries[at + 32];
            if (default(TColumns).Count == 8)
            {
                default(WholeTile2).Add(a0, q);
                default(WholeTile3).Add(a1, q);
                q = Queries[at + 64];
            }

            default(WholeTile4).Add(a0, q);
            default(WholeTile5).Add(a1, q);
        }
    }

    // The mean in all rows. Four words are an operand as they lie: of 32 elements the upper rows hold one half, of which the upper sums are, the lower rows and sums the other.
    private struct MeanTurn<TKey, TColumns, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public PageWords Page;
        public ArrayView<Words2> Queries;

        // As many steps of 32 elements as a chunk has.
        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            Step(i * default(TKey).Steps);
            if (default(TKey).Steps > 1)
            {
                Step((i * default(TKey).Steps) + 1);
            }

            if (default(TKey).Steps > 2)
            {
                Step((i * default(TKey).Steps) + 2);
                Step((i * default(TKey).Steps) + 3);
            }
        }

        [MethodImpl(Inlined)]
        private readonly void Step(int step)
        {
            if (32 * (step + 1) <= default(TShape).KeyWidth)
            {
                Words4 rows = Page.Words.Four.SubView((Page.Map.Mean / 4) + (Group.IdxX & 3))[4 * step];
                Add<SumTile0>(rows, 2 * step);
                Add<SumTile1>(rows, (2 * step) + 1);
            }
            else if (32 * step < default(TShape).KeyWidth)
            {
                Words2 m = Page.Words.Two.SubView((Page.Map.Mean / 2) + (Group.IdxX & 3))[8 * step];
                Add<SumTile0>(KeyOperands.Of(m.X, m.X, m.Y, m.Y), 2 * step);
            }
        }

        [MethodImpl(Inlined)]
        private readonly void Add<TTile>(Words4 rows, int half)
            where TTile : struct, ISumTile
        {
            int at = half * QueryTiles.MeanParts<TColumns>() * 32;
            default(TTile).AddHalves(rows, Queries[at]);
            if (default(TColumns).Count == 8)
            {
                default(TTile).AddHalves(rows, Queries[at + 32]);
            }
        }
    }

    [MethodImpl(Inlined)]
    private static void Start<TKey, TColumns>(IntTile starts)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
    {
        IntTile zeros = default;
        default(WholeTile0).Start(zeros);
        default(WholeTile1).Start(zeros);
        if (default(TColumns).Count == 8)
        {
            default(WholeTile2).Start(zeros);
            default(WholeTile3).Start(zeros);
        }

        default(WholeTile4).Start(default(TKey).Scales == Scaling.Gain ? starts : zeros);
        default(WholeTile5).Start(default(TKey).Scales == Scaling.Gain ? starts : zeros);
    }

    [MethodImpl(Inlined)]
    private static IntTile Middle<TColumns, TTile>()
        where TColumns : struct, IQueryColumns
        where TTile : struct, IWholeTile => default(TColumns).Count == 8 ? default(TTile).Take() : default;

    // Sums of limbs to products of whole queries and keys.
    [MethodImpl(Inlined)]
    private static Floats4 Join<TKey, TColumns, TShape>(int scales, int gains, IntTile high, IntTile middle, IntTile low, ScalePair mean)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        Floats4 s = default;
        if (default(TColumns).Count == 8)
        {
            s.A = Scaled<TKey>(Whole<TShape>(high.A, middle.A, low.A), Lane.LowHalf(scales), Lane.LowHalf(gains), mean.A);
            s.B = Scaled<TKey>(Whole<TShape>(high.B, middle.B, low.B), Lane.LowHalf(scales), Lane.LowHalf(gains), mean.B);
            s.C = Scaled<TKey>(Whole<TShape>(high.C, middle.C, low.C), Lane.HighHalf(scales), Lane.HighHalf(gains), mean.A);
            s.D = Scaled<TKey>(Whole<TShape>(high.D, middle.D, low.D), Lane.HighHalf(scales), Lane.HighHalf(gains), mean.B);
        }
        else
        {
            s.A = Scaled<TKey>(Whole<TShape>(high.A, high.B, low.A), Lane.LowHalf(scales), Lane.LowHalf(gains), mean.A);
            s.C = Scaled<TKey>(Whole<TShape>(high.C, high.D, low.C), Lane.HighHalf(scales), Lane.HighHalf(gains), mean.A);
        }

        return s;
    }

    /// <summary>A product of whole numbers times a key's scale; of T keys its gain, and with the product with the page's mean.</summary>
    [MethodImpl(Inlined)]
    public static float Scaled<TKey>(float product, float scale, float gain, float mean)
        where TKey : struct, IKeyTiles =>
        default(TKey).Scales == Scaling.Gain ? scale * Lane.Fma(product, gain, mean) : product * scale;

    /// <summary>Joins the sums of limbs. Up to 512 elements two limbs' sums fit 32 bits together; their last bits are below binary32's either way.</summary>
    [MethodImpl(Inlined)]
    public static float Whole<TShape>(int high, int middle, int low)
        where TShape : struct, ITensorShape => default(TShape).KeyWidth <= 512
            ? Lane.Fma((high << 8) + middle, 256f, low)
            : Lane.Fma(Lane.Fma(high, 256f, middle), 256f, low);

    // The products of the queries with the page's mean, which lies in binary16, the same in all rows.
    [MethodImpl(Inlined)]
    private static ScalePair MeanProducts<TKey, TColumns, TShape>(PageWords page, ArrayView<Words2> queries, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        MeanTurn<TKey, TColumns, TShape> turn = default;
        turn.Page = page;
        turn.Queries = queries.SubView(QueryTiles.MeanFirst<TKey, TColumns, TShape>() * 32);
        default(SumTile0).Clear();
        default(SumTile1).Clear();
        default(TShape).Keys(ref turn);
        Floats4 upper = default(SumTile0).Take();
        Floats4 lower = default(SumTile1).Take();
        float first = upper.A + lower.C;
        float second = upper.B + lower.D;
        ScalePair mean = default;
        mean.A = (default(TColumns).Count == 8 ? first : first + second) * a.MeanFactor;
        mean.B = second * b.MeanFactor;
        return mean;
    }

    [MethodImpl(Inlined)]
    private static void Multiply<TKey, TTile>(Words4 a, Words2 q)
        where TKey : struct, IKeyTiles
        where TTile : struct, ISumTile
    {
        if (default(TKey).Arithmetic == TileArithmetic.Halves)
        {
            default(TTile).AddHalves(a, q);
        }
        else
        {
            default(TTile).AddBFloats(a, q);
        }
    }
}
