using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// What a lane has of 16 query rows and 64 tokens. Of each tile of 16 tokens two accumulators: lane 4 g + q has of rows g (A, B) and g + 8 (C, D) the tokens 4 q and
/// 4 q + 2 in the first, 4 q + 1 and 4 q + 3 in the second.
/// </summary>
internal struct RowSpan
{
    public RefTiles<float> Low;
    public RefTiles<float> High;
}

/// <summary>The query rows of a warp as A operands of mma, [step][part][32 lanes] Words4.</summary>
internal struct RowQueries
{
    /// <summary>The lane's words, 32 apart.</summary>
    public ArrayView<Words4> Parts;

    /// <summary>Their offset in the group's shared memory.</summary>
    public int At;

    /// <summary>The states of the lane's two rows.</summary>
    public ColumnState A;
    public ColumnState B;
}

/// <summary>Fewer parts: what is left of a query or of a weight beyond 11 bits (of bfloat16 and of whole numbers beyond 16) is left out.</summary>
internal readonly struct FastQueries : IQueryColumns
{
    public int Count => 8;

    public int Joined => 1;

    public int TilesOfPlace => 1;
}

/// <summary>The products of 16 query rows with the 64 keys of a page, which lie in shared memory: [step][4 tiles of 16 tokens][32 lanes] Words4.</summary>
internal static class RowTiles
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    // Of a T page's mean a whole number is this many units. Its elements are below 1.5 sqrt(256), as keys are divided by their root mean square.
    private const float MeanUnits = 262144f;

    /// <summary>Steps of mma over a key.</summary>
    public static int Steps<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => QueryTiles.Chunks<TKey, TShape>() * default(TKey).Steps;

    /// <summary>Words4 of a lane that queries take.</summary>
    public static int Slots<TKey, TColumns, TShape>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape =>
        Steps<TKey, TShape>() * (QueryTiles.IsRaw<TKey, TColumns>() ? 2 : QueryTiles.Parts<TKey, TColumns>());

    /// <summary>Puts words of queries, which were entered row by row, in the order of operands: to and fro between the two rows.</summary>
    [MethodImpl(Inlined)]
    public static void Cross<TKey, TColumns, TShape>(ArrayView<Words4> queries)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        for (int i = 0; !QueryTiles.IsRaw<TKey, TColumns>() && i < Slots<TKey, TColumns, TShape>(); i++)
        {
            queries[i * 32] = Crossed(queries[i * 32]);
        }
    }

    /// <summary>s = Q K^T, in units of each row's factor; <paramref name="keyAt"/> is the offset of the lane's keys in shared memory.</summary>
    [MethodImpl(Inlined)]
    public static void Multiply<TKey, TColumns, TShape>(ref RowSpan s, PagePlace page, RowQueries queries, int keyAt, ArrayView<Words2> mean)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int parts = QueryTiles.Parts<TKey, TColumns>();
        if (default(TKey).Arithmetic != TileArithmetic.Bytes)
        {
            s.Low = default;
            s.High = default;
            // Four steps at a time, then those that are left: one of width 80, two of 96.
            int steps = Steps<TKey, TShape>();
            int step = 512 * Slots<TKey, TColumns, TShape>() / steps;
            RowProducts.Multiply(ref s, default(TKey).Arithmetic, parts, queries.At, keyAt);
            if (steps == 8)
            {
                RowProducts.Multiply(ref s, default(TKey).Arithmetic, parts, queries.At + (4 * step), keyAt + (4 * 2048));
                return;
            }

            if (steps > 4)
            {
                RowProducts.MultiplyStep(ref s, default(TKey).Arithmetic, parts, queries.At + (4 * step), keyAt + (4 * 2048));
            }

            if (steps > 5)
            {
                RowProducts.MultiplyStep(ref s, default(TKey).Arithmetic, parts, queries.At + (5 * step), keyAt + (5 * 2048));
            }

            return;
        }

        // Levels of T formats are whole numbers and a half: the halves come to half of the sum of the query's whole numbers.
        ByteRows rows = default;
        rows.At = queries.At;
        rows.Steps = Steps<TKey, TShape>();
        rows.Limbs = parts;
        rows.HalfA = default(TKey).Scales == Scaling.Gain ? queries.A.HalfSum : 0;
        rows.HalfB = default(TKey).Scales == Scaling.Gain ? queries.B.HalfSum : 0;
        RowProducts.MultiplyBytes(ref s.Low, rows, keyAt);
        RowProducts.MultiplyBytes(ref s.High, rows, keyAt + 1024);
        ScalePair means = default;
        if (default(TKey).Scales == Scaling.Gain)
        {
            means = MeanProducts<TKey, TColumns, TShape>(queries, mean);
        }

        ArrayView<Words2> scales = page.Arena.Two.SubView(((page.First + page.Map.KeyScales) / 2) + (Group.IdxX & 3));
        Scale<TKey, TShape>(ref s.Low.T0, ref s.Low.T1, scales, 0, means);
        Scale<TKey, TShape>(ref s.Low.T2, ref s.Low.T3, scales, 1, means);
        Scale<TKey, TShape>(ref s.High.T0, ref s.High.T1, scales, 2, means);
        Scale<TKey, TShape>(ref s.High.T2, ref s.High.T3, scales, 3, means);
    }

    /// <summary>The sum of x over the four lanes of a row, in all of them.</summary>
    [MethodImpl(Inlined)]
    public static float SumOfColumns(float x)
    {
        x += Warp.ShuffleXor(x, 1);
        return x + Warp.ShuffleXor(x, 2);
    }

    /// <summary>The largest x of the four lanes of a row, in all of them.</summary>
    [MethodImpl(Inlined)]
    public static float LargestOfColumns(float x)
    {
        x = Lane.Max(x, Warp.ShuffleXor(x, 1));
        return Lane.Max(x, Warp.ShuffleXor(x, 2));
    }

    /// <summary>Expands a page's keys: warp n those of tile n.</summary>
    [MethodImpl(Inlined)]
    public static void StageKeys<TKey, TShape>(PagePlace page, ArrayView<Words4> keys)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        int tile = Group.IdxX >> 5;
        int lane = Group.IdxX & 31;
        int first = (KeyLoads.LaneWord<TKey, TShape>(lane & 3) * default(TShape).PageTokens) + (2 * (lane >> 2)) + (16 * tile);
        ArrayView<Words2> from = page.Arena.Two.SubView((page.First + first) / 2);
        KeyTurn<TKey, TShape> turn = default;
        turn.From = from;
        turn.To = keys.SubView((tile * 32) + lane);
        default(TShape).Keys(ref turn);
    }

    /// <summary>Enters a T page's mean in three limbs, columns of one more tile: [step][limb][4 lanes of a row] Words2.</summary>
    [MethodImpl(Inlined)]
    public static void StageMean<TKey, TShape>(PagePlace page, ArrayView<Words2> mean)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        ArrayView<int> from = page.Arena.One.SubView(page.First + page.Map.Mean);
        for (int i = Group.IdxX; i < 4 * Steps<TKey, TShape>(); i += Group.DimX)
        {
            int step = i >> 2;
            int quad = i & 3;
            int chunk = step / default(TKey).Steps;
            Words2 high = default;
            Words2 middle = default;
            Words2 low = default;
            for (int j = 0; j < 8; j++)
            {
                int element = default(TKey).Element(chunk, step - (chunk * default(TKey).Steps), quad, j);
                element = element < default(TShape).KeyWidth ? element : 0;
                int halves = from[element >> 1] >>> (16 * (element & 1));
                int whole = Lane.Round(Lane.LowHalf(halves) * MeanUnits);
                int shift = 8 * (j & 3);
                Add(ref high, QueryTiles.Limb(whole, 0) << shift, j);
                Add(ref middle, QueryTiles.Limb(whole, 1) << shift, j);
                Add(ref low, QueryTiles.Limb(whole, 2) << shift, j);
            }

            mean[(step * 12) + quad] = high;
            mean[(step * 12) + 4 + quad] = middle;
            mean[(step * 12) + 8 + quad] = low;
        }
    }

    [MethodImpl(Inlined)]
    private static void Add(ref Words2 words, int bits, int i)
    {
        words.X |= i < 4 ? bits : 0;
        words.Y |= i < 4 ? 0 : bits;
    }

    // The lane's four tokens of a tile have two words of scales.
    [MethodImpl(Inlined)]
    private static void Scale<TKey, TShape>(ref RefTile<float> even, ref RefTile<float> odd, ArrayView<Words2> all, int tile, ScalePair means)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        Words2 scales = all[4 * tile];
        Words2 gains = default(TKey).Scales == Scaling.Gain ? all[(4 * tile) + (default(TShape).PageTokens / 4)] : default;
        Scale<TKey>(ref even, Lane.LowHalf(scales.X), Lane.LowHalf(scales.Y), Lane.LowHalf(gains.X), Lane.LowHalf(gains.Y), means);
        Scale<TKey>(ref odd, Lane.HighHalf(scales.X), Lane.HighHalf(scales.Y), Lane.HighHalf(gains.X), Lane.HighHalf(gains.Y), means);
    }

    [MethodImpl(Inlined)]
    private static void Scale<TKey>(ref RefTile<float> s, float scale0, float scale1, float gain0, float gain1, ScalePair means)
        where TKey : struct, IKeyTiles
    {
        s.A = TileLogits.Scaled<TKey>(s.A.Value, scale0, gain0, means.A);
        s.B = TileLogits.Scaled<TKey>(s.B.Value, scale1, gain1, means.A);
        s.C = TileLogits.Scaled<TKey>(s.C.Value, scale0, gain0, means.B);
        s.D = TileLogits.Scaled<TKey>(s.D.Value, scale1, gain1, means.B);
    }

    // The products of the queries with the page's mean, the same in all lanes of a row.
    [MethodImpl(Inlined)]
    private static ScalePair MeanProducts<TKey, TColumns, TShape>(RowQueries queries, ArrayView<Words2> mean)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int lane = Group.IdxX & 31;
        int limb = lane >> 2;
        ArrayView<Words2> own = mean.SubView(limb < 3 ? lane : lane & 3);
        int parts = QueryTiles.Parts<TKey, TColumns>();
        default(WholeTile0).Start(default);
        default(WholeTile2).Start(default);
        default(WholeTile4).Start(default);
        for (int step = 0; step < Steps<TKey, TShape>(); step++)
        {
            ArrayView<Words4> q = queries.Parts.SubView(step * parts * 32);
            Words2 m = own[step * 12];
            m.X = limb < 3 ? m.X : 0;
            m.Y = limb < 3 ? m.Y : 0;
            default(WholeTile0).Add(q[0], m);
            default(WholeTile2).Add(q[32], m);
            if (parts > 2)
            {
                default(WholeTile4).Add(q[64], m);
            }
        }

        IntTile high = default(WholeTile0).Take();
        IntTile middle = default(WholeTile2).Take();
        IntTile low = default(WholeTile4).Take();

        // Lane 0 of a row has the sums of the two high limbs, lane 1 that of the low one.
        Floats4 sums = default;
        sums.A = TileLogits.Whole<TShape>(high.A, middle.A, low.A);
        sums.B = TileLogits.Whole<TShape>(high.B, middle.B, low.B);
        sums.C = TileLogits.Whole<TShape>(high.C, middle.C, low.C);
        sums.D = TileLogits.Whole<TShape>(high.D, middle.D, low.D);
        float unit = ((lane & 3) == 0 ? 65536f : 1f) / MeanUnits;
        ScalePair products = default;
        products.A = SumOfColumns(Lane.Fma(sums.A, unit, sums.B * (256f / MeanUnits)));
        products.B = SumOfColumns(Lane.Fma(sums.C, unit, sums.D * (256f / MeanUnits)));
        return products;
    }

    [MethodImpl(Inlined)]
    private static Words4 Crossed(Words4 words) => KeyOperands.Of(words.X, words.Z, words.Y, words.W);

    // A chunk of a tile's keys, from a page to operands.
    private struct KeyTurn<TKey, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        public ArrayView<Words2> From;
        public ArrayView<Words4> To;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            // What is the A operand of 16 keys elsewhere are the B operands of two times eight keys.
            KeyWords words = KeyLoads.Load<TKey, TShape>(From, i, 0);
            int at = i * default(TKey).Steps * 128;
            To[at] = Crossed(default(TKey).Operand(words, 0, default(TKey).Levels));
            if (default(TKey).Steps > 1)
            {
                To[at + 128] = Crossed(default(TKey).Operand(words, 1, default(TKey).Levels));
            }

            if (default(TKey).Steps > 2)
            {
                To[at + 256] = Crossed(default(TKey).Operand(words, 2, default(TKey).Levels));
                To[at + 384] = Crossed(default(TKey).Operand(words, 3, default(TKey).Levels));
            }
        }
    }
}
