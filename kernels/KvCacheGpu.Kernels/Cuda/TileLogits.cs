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
    /// <param name="keyLane">The lane's first word of the page's first two tokens.</param>
    /// <param name="queries">The lane's query parts.</param>
    /// <param name="a">The lane's first column.</param>
    /// <param name="b">Its second column.</param>
    [MethodImpl(Inlined)]
    public static Span64 Of<TKey, TColumns, TShape>(PagePlace page, int keyLane, ArrayView<Words2> queries, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        ArrayView<Words2> keys = page.Arena.Two.SubView((page.First + keyLane + page.Span) / 2);
        if (default(TKey).Arithmetic != TileArithmetic.Bytes)
        {
            HalfTurn<TKey, TColumns, TShape> turn = default;
            turn.Keys = keys;
            turn.Queries = queries;
            default(TShape).Keys(ref turn);
            if (default(TColumns).Count == 4)
            {
                JoinParts(ref turn.Sums.T0);
                JoinParts(ref turn.Sums.T1);
                JoinParts(ref turn.Sums.T2);
                JoinParts(ref turn.Sums.T3);
            }

            return turn.Sums;
        }

        ScalePair mean = default;
        if (default(TKey).Scales == Scaling.Gain)
        {
            mean = MeanProducts<TKey, TColumns, TShape>(page, queries, a, b);
        }

        // Two tiles at a time: three sums of whole numbers take three times the registers.
        ByteTurn<TKey, TColumns, TShape, N0> low = default;
        low.Keys = keys;
        low.Queries = queries;
        Start<TKey, TColumns>(ref low.Low0, ref low.Low1, a, b);
        default(TShape).Keys(ref low);
        Span64 s = default;
        s.T0 = Join<TKey, TColumns, TShape>(page, 0, low.High0, low.Middle0, low.Low0, mean);
        s.T1 = Join<TKey, TColumns, TShape>(page, 1, low.High1, low.Middle1, low.Low1, mean);
        ByteTurn<TKey, TColumns, TShape, N2> high = default;
        high.Keys = keys;
        high.Queries = queries;
        Start<TKey, TColumns>(ref high.Low0, ref high.Low1, a, b);
        default(TShape).Keys(ref high);
        s.T2 = Join<TKey, TColumns, TShape>(page, 2, high.High0, high.Middle0, high.Low0, mean);
        s.T3 = Join<TKey, TColumns, TShape>(page, 3, high.High1, high.Middle1, high.Low1, mean);
        return s;
    }

    // With four queries the two parts of one lie in neighbouring columns.
    [MethodImpl(Inlined)]
    private static void JoinParts(ref Floats4 s)
    {
        s.A += s.B;
        s.C += s.D;
    }

    private struct HalfTurn<TKey, TColumns, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public ArrayView<Words2> Keys;
        public ArrayView<Words2> Queries;
        public Span64 Sums;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            KeyWords k0 = Load<TKey, TShape>(Keys, i, 0);
            KeyWords k1 = Load<TKey, TShape>(Keys, i, 1);
            KeyWords k2 = Load<TKey, TShape>(Keys, i, 2);
            KeyWords k3 = Load<TKey, TShape>(Keys, i, 3);
            int parts = QueryTiles.Parts<TKey, TColumns>();
            Words4 a0 = default(TKey).Operand(k0, 0);
            Words4 a1 = default(TKey).Operand(k1, 0);
            Words4 a2 = default(TKey).Operand(k2, 0);
            Words4 a3 = default(TKey).Operand(k3, 0);
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
        private void Part(Words4 a0, Words4 a1, Words4 a2, Words4 a3, Words2 q)
        {
            Multiply<TKey>(ref Sums.T0, a0, q);
            Multiply<TKey>(ref Sums.T1, a1, q);
            Multiply<TKey>(ref Sums.T2, a2, q);
            Multiply<TKey>(ref Sums.T3, a3, q);
        }
    }

    // Of two tiles, from TFirst on, the sums of a query's three limbs; with four queries the columns of Middle are those of High.
    private struct ByteTurn<TKey, TColumns, TShape, TFirst> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
        where TFirst : struct, INumber
    {
        public ArrayView<Words2> Keys;
        public ArrayView<Words2> Queries;
        public IntTile High0;
        public IntTile High1;
        public IntTile Middle0;
        public IntTile Middle1;
        public IntTile Low0;
        public IntTile Low1;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            KeyWords k0 = Load<TKey, TShape>(Keys, i, default(TFirst).Value);
            KeyWords k1 = Load<TKey, TShape>(Keys, i, default(TFirst).Value + 1);
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

        [MethodImpl(Inlined)]
        private void Step(KeyWords k0, KeyWords k1, int first, int step)
        {
            Words4 a0 = default(TKey).Operand(k0, step);
            Words4 a1 = default(TKey).Operand(k1, step);
            int at = (first + step) * QueryTiles.Parts<TKey, TColumns>() * 32;
            Words2 q = Queries[at];
            Lane.MultiplyBytes(ref High0, a0, q.X, q.Y);
            Lane.MultiplyBytes(ref High1, a1, q.X, q.Y);
            q = Queries[at + 32];
            if (default(TColumns).Count == 8)
            {
                Lane.MultiplyBytes(ref Middle0, a0, q.X, q.Y);
                Lane.MultiplyBytes(ref Middle1, a1, q.X, q.Y);
                q = Queries[at + 64];
            }

            Lane.MultiplyBytes(ref Low0, a0, q.X, q.Y);
            Lane.MultiplyBytes(ref Low1, a1, q.X, q.Y);
        }
    }

    private struct MeanTurn<TKey, TColumns, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public ArrayView<Words2> Means;
        public ArrayView<Words2> Queries;
        public Floats4 Product;

        // As many steps of 16 elements as a chunk has.
        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            int steps = 2 * default(TKey).Steps;
            Step(i * steps);
            Step((i * steps) + 1);
            if (default(TKey).Steps > 1)
            {
                Step((i * steps) + 2);
                Step((i * steps) + 3);
            }

            if (default(TKey).Steps > 2)
            {
                Step((i * steps) + 4);
                Step((i * steps) + 5);
                Step((i * steps) + 6);
                Step((i * steps) + 7);
            }
        }

        [MethodImpl(Inlined)]
        private void Step(int step)
        {
            if (step < default(TShape).KeyWidth / 16)
            {
                Words2 m = Means[4 * step];
                Words4 rows = KeyOperands.Of(m.X, m.X, m.Y, m.Y);
                int at = step * QueryTiles.MeanParts<TColumns>() * 32;
                Words2 q = Queries[at];
                Lane.MultiplyHalves(ref Product, rows, q.X, q.Y);
                if (default(TColumns).Count == 8)
                {
                    q = Queries[at + 32];
                    Lane.MultiplyHalves(ref Product, rows, q.X, q.Y);
                }
            }
        }
    }

    // Levels are whole numbers and a half: the halves come to half of the sum of the query's whole numbers.
    [MethodImpl(Inlined)]
    private static void Start<TKey, TColumns>(ref IntTile low0, ref IntTile low1, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
    {
        if (default(TKey).Scales == Scaling.Gain)
        {
            low0.A = a.HalfSum;
            low0.C = a.HalfSum;
            low1.A = a.HalfSum;
            low1.C = a.HalfSum;
            if (default(TColumns).Count == 8)
            {
                low0.B = b.HalfSum;
                low0.D = b.HalfSum;
                low1.B = b.HalfSum;
                low1.D = b.HalfSum;
            }
        }
    }

    // Sums of limbs to products of whole queries and keys.
    [MethodImpl(Inlined)]
    private static Floats4 Join<TKey, TColumns, TShape>(PagePlace page, int tile, IntTile high, IntTile middle, IntTile low, ScalePair mean)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        long at = page.First + page.Map.KeyScales + ((page.Span + QueryTiles.TileTokens<TShape>(tile)) / 2) + ((Group.IdxX & 31) >> 2);
        int scales = page.Arena.One[at];
        int gains = default(TKey).Scales == Scaling.Gain ? page.Arena.One[at + (default(TShape).PageTokens / 2)] : 0;
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
    private static ScalePair MeanProducts<TKey, TColumns, TShape>(PagePlace page, ArrayView<Words2> queries, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        MeanTurn<TKey, TColumns, TShape> turn = default;
        turn.Means = page.Arena.Two.SubView((page.First + page.Map.Mean + (2 * (Group.IdxX & 3))) / 2);
        turn.Queries = queries.SubView(QueryTiles.MeanFirst<TKey, TColumns, TShape>() * 32);
        default(TShape).Keys(ref turn);
        Floats4 product = turn.Product;
        ScalePair mean = default;
        mean.A = (default(TColumns).Count == 8 ? product.A : product.A + product.B) * a.MeanFactor;
        mean.B = product.B * b.MeanFactor;
        return mean;
    }

    [MethodImpl(Inlined)]
    private static void Multiply<TKey>(ref Floats4 s, Words4 a, Words2 q)
        where TKey : struct, IKeyTiles
    {
        if (default(TKey).Arithmetic == TileArithmetic.Halves)
        {
            Lane.MultiplyHalves(ref s, a, q.X, q.Y);
        }
        else
        {
            Lane.MultiplyBFloats(ref s, a, q.X, q.Y);
        }
    }

    /// <summary>The lane's first word of a key; with a tail it depends on the chunk.</summary>
    [MethodImpl(Inlined)]
    public static int LaneWord<TKey, TShape>(int quad)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => HasTail<TKey, TShape>() ? 0 : default(TKey).LaneWords * quad;

    // True if some lanes have no words of the last chunk.
    private static bool HasTail<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => default(TKey).Words(default(TShape).KeyWidth) % default(TKey).ChunkWords != 0;

    /// <summary>A lane's words of two tokens. Lanes behind the last word of a key read that one; their queries are zeros.</summary>
    [MethodImpl(Inlined)]
    public static KeyWords Load<TKey, TShape>(ArrayView<Words2> keys, int chunk, int tile)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        int page = default(TShape).PageTokens;
        int word = chunk * default(TKey).ChunkWords;
        int more = default(TKey).LoadStride;
        if (HasTail<TKey, TShape>())
        {
            int last = default(TKey).Words(default(TShape).KeyWidth) - default(TKey).LaneWords;
            word += default(TKey).LaneWords * (Group.IdxX & 3);
            int second = default(TKey).LaneWords == 1 ? word + more : last;
            word = word < last ? word : last;
            more = default(TKey).LaneWords == 1 ? (second < last ? second : last) - word : more;
        }

        int at = ((word * page) + QueryTiles.TileTokens<TShape>(tile)) / 2;
        KeyWords words = default;
        words.A = keys[at];
        if (default(TKey).Loads > 1)
        {
            words.B = keys[at + (more * page / 2)];
        }

        if (default(TKey).Loads > 2)
        {
            words.C = keys[at + (more * page)];
        }

        return words;
    }
}
