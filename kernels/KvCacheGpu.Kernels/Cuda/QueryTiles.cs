using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Where one query of a block lies; what a lane needs to read it.</summary>
internal readonly struct QueryPlace(long at, int type, float scale, bool isQuery)
{
    public readonly long At = at;
    public readonly int Type = type;
    public readonly float Scale = scale;
    public readonly bool IsQuery = isQuery;

    public float Load(ArrayView<ushort> queries, int element) => IsQuery ? TypedElements.Load(queries, At + element, Type) * Scale : 0f;
}

/// <summary>
/// A block's queries as B operands of mma, in parts that together hold 22 bits or more: each lane keeps its own words in shared memory, where registers are scarce.
/// </summary>
/// <remarks>
/// A query is multiplied by a power of two first (whole numbers: by its own factor), so that no part is subnormal or infinite; the factor that takes it back goes to the
/// logits. Entering numbers in parts: Markidis et al. 2018.
/// </remarks>
internal static class QueryTiles
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    // Below the largest limbs, 127 * (65536 + 256 + 1) = 8355711, by more than roundings can take it up.
    private const float LargestWhole = 8355000f;

    // Products are below 2^46: times 2^60 they stay in binary32.
    private const int MostExponent = 60;

    /// <summary>Words2 of a lane: query parts, and of T formats the parts that a page's mean is multiplied by.</summary>
    public static int Words<TKey, TColumns, TShape>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape =>
        MeanFirst<TKey, TColumns, TShape>() + (default(TKey).HasMean * (default(TShape).KeyWidth / 16) * MeanParts<TColumns>());

    /// <summary>Words2 of a lane before those for a page's mean.</summary>
    public static int MeanFirst<TKey, TColumns, TShape>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape => Chunks<TKey, TShape>() * default(TKey).Steps * Parts<TKey, TColumns>();

    /// <summary>Words2 of a lane for a step of mma: parts of a query that are entered one after the other.</summary>
    public static int Parts<TKey, TColumns>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns => default(TKey).Parts - default(TColumns).Joined;

    /// <summary>The same for a page's mean.</summary>
    public static int MeanParts<TColumns>()
        where TColumns : struct, IQueryColumns => 2 - default(TColumns).Joined;

    /// <summary>Chunks of keys; of the last one some lanes may have no words.</summary>
    public static int Chunks<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape =>
        (default(TShape).KeyWidth + (default(TKey).Steps * default(TKey).StepElements) - 1) / (default(TKey).Steps * default(TKey).StepElements);

    /// <summary>Enters a block's queries, and sets the factors of the lane's two columns.</summary>
    [MethodImpl(Inlined)]
    public static void Enter<TKey, TColumns, TShape>(
        ArrayView<ushort> queries, QueryRange range, ArrayView<Words2> target, ref ColumnState a, ref ColumnState b, LayerDims layer, KernelDims dims)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int lane = Group.IdxX & 31;
        int quad = lane & 3;
        int part = default(TColumns).Count == 8 ? 0 : (lane >> 2) & 1;
        QueryPlace place = range.Place(default(TColumns).Count == 8 ? lane >> 2 : lane >> 3, layer, dims);
        float largest = Largest<TShape>(queries, place, quad);
        int above = largest > 0f ? PortableMath.ExponentAbove(largest) : 0;
        float mantissa = largest > 0f ? Power(largest, -above) : 1f;
        int half = 0;
        if (default(TKey).Arithmetic != TileArithmetic.Bytes)
        {
            Store<TKey, TColumns, TShape>(queries, place, target, part, Exponent<TKey>(above), 32);
        }
        else
        {
            half = StoreWhole<TKey, TColumns, TShape>(queries, place, target, part, above, LargestWhole / mantissa, 32) >> 1;
            if (default(TKey).Scales == Scaling.Gain)
            {
                StoreForMean<TColumns, TShape>(queries, place, target.SubView(MeanFirst<TKey, TColumns, TShape>() * 32), part, above - 15);
            }
        }

        // Columns of results lie elsewhere than those of queries.
        int from = default(TColumns).Count == 8 ? 8 * quad : 8 * quad;
        SetFactors<TKey>(ref a, Warp.Shuffle(above, from), Warp.Shuffle(mantissa, from), layer.Logits);
        a.HalfSum = Warp.Shuffle(half, from);
        from = default(TColumns).Count == 8 ? (8 * quad) + 4 : 8 * quad;
        SetFactors<TKey>(ref b, Warp.Shuffle(above, from), Warp.Shuffle(mantissa, from), layer.Logits);
        b.HalfSum = Warp.Shuffle(half, from);
    }

    /// <summary>True if queries lie in binary32, as all parts of them would take more.</summary>
    public static bool IsRaw<TKey, TColumns>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns => default(TKey).Arithmetic == TileArithmetic.BFloats && Parts<TKey, TColumns>() == 3;

    /// <summary>Enters a query for A operands, whose rows are queries; its lanes are those that have its row of results. The upper of a lane's two rows is <paramref name="half"/> 0.</summary>
    [MethodImpl(Inlined)]
    public static void EnterRow<TKey, TColumns, TShape>(
        ArrayView<ushort> queries, QueryPlace place, ArrayView<Words4> slots, int half, ref ColumnState row, LogitDims logits)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        float largest = Largest<TShape>(queries, place, Group.IdxX & 3);
        int above = largest > 0f ? PortableMath.ExponentAbove(largest) : 0;
        float mantissa = largest > 0f ? Power(largest, -above) : 1f;
        ArrayView<Words2> target = slots.Cast<Words2>().SubView(half);
        if (IsRaw<TKey, TColumns>())
        {
            StoreRaw<TKey, TShape>(queries, place, slots.SubView(32 * half), Exponent<TKey>(above));
        }
        else if (default(TKey).Arithmetic != TileArithmetic.Bytes)
        {
            Store<TKey, TColumns, TShape>(queries, place, target, 0, Exponent<TKey>(above), 64);
        }
        else
        {
            row.HalfSum = StoreWhole<TKey, TColumns, TShape>(queries, place, target, 0, above, LargestWhole / mantissa, 64) >> 1;
        }

        SetFactors<TKey>(ref row, above, mantissa, logits);
    }

    // The factor of products, or their base and extra exponent where products times the factor could leave binary32.
    [MethodImpl(Inlined)]
    private static void SetFactors<TKey>(ref ColumnState column, int above, float mantissa, LogitDims logits)
        where TKey : struct, IKeyTiles
    {
        int exponent = Exponent<TKey>(above) + default(TKey).Exponent + logits.Exponent;
        if (default(TKey).Arithmetic == TileArithmetic.BFloats)
        {
            column.Factor = PortableMath.PowerOf(exponent < -126 ? -126 : exponent < 120 ? exponent : 120);
            column.Base = exponent < 0 ? column.Factor : 1f;
            column.Extra = exponent < 0 ? 0 : exponent;
        }
        else
        {
            column.Extra = exponent > MostExponent ? exponent - MostExponent : 0;
            column.Factor = Power(default(TKey).Arithmetic == TileArithmetic.Bytes ? mantissa / LargestWhole : 1f, exponent - column.Extra);
            column.Base = column.Factor;
            column.MeanFactor = LargestWhole / mantissa * (1f / 32768f);
        }

        if (logits.Cap != 0f)
        {
            column.CapBase = column.Base;
            column.CapExtra = column.Extra;
            column.Factor = 1f;
            column.Base = 1f;
            column.Extra = 0;
        }

        // From 2^23 on binary32 has no fractions; and an extra exponent would multiply the shift too.
        column.Unshifted = column.Extra > 0 ? 0f : 8388608f;
    }

    // The largest element of a lane's query; the four lanes of a query share it.
    [MethodImpl(Inlined)]
    private static float Largest<TShape>(ArrayView<ushort> queries, QueryPlace place, int quad)
        where TShape : struct, ITensorShape
    {
        float most = 0f;
        for (int d = quad; d < default(TShape).KeyWidth; d += 4)
        {
            float x = place.Load(queries, d);
            most = Lane.Max(most, x < 0f ? -x : x);
        }

        most = Lane.Max(most, Warp.ShuffleXor(most, 1));
        return Lane.Max(most, Warp.ShuffleXor(most, 2));
    }

    // Queries below 2^above are multiplied by 2^-result: in binary16 to below 2^15; in bfloat16 to below 2^-11, as keys go up to 2^128 there. Whole numbers have factors of their own.
    private static int Exponent<TKey>(int above)
        where TKey : struct, IKeyTiles => default(TKey).Arithmetic switch
        {
            TileArithmetic.BFloats => above + 11,
            TileArithmetic.Halves => above - 15,
            _ => above,
        };

    // x * 2^exponent for exponents of -252 .. 254.
    [MethodImpl(Inlined)]
    private static float Power(float x, int exponent) => x * PortableMath.PowerOf(exponent / 2) * PortableMath.PowerOf(exponent - (exponent / 2));

    // A lane's words of binary16 or bfloat16 parts, stride apart; part: that of its column, where columns are parts.
    [MethodImpl(Inlined)]
    private static void Store<TKey, TColumns, TShape>(ArrayView<ushort> queries, QueryPlace place, ArrayView<Words2> target, int part, int exponent, int stride)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int parts = Parts<TKey, TColumns>();
        int quad = Group.IdxX & 3;
        for (int chunk = 0; chunk < Chunks<TKey, TShape>(); chunk++)
        {
            Floats4 x = default;
            x.A = Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 0), -exponent);
            x.B = Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 1), -exponent);
            x.C = Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 2), -exponent);
            x.D = Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 3), -exponent);
            for (int i = 0; i < parts; i++)
            {
                target[((chunk * parts) + i) * stride] = default(TKey).Arithmetic == TileArithmetic.Halves
                    ? parts == 1 && default(TColumns).Count == 8 ? Rounded(x) : HalfPart(x, default(TColumns).Count == 8 ? i : part)
                    : BFloatPart(x, default(TColumns).Count == 8 ? i : i == 0 ? part : 2 + part);
            }
        }
    }

    [MethodImpl(Inlined)]
    private static void StoreRaw<TKey, TShape>(ArrayView<ushort> queries, QueryPlace place, ArrayView<Words4> target, int exponent)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        int quad = Group.IdxX & 3;
        for (int chunk = 0; chunk < Chunks<TKey, TShape>(); chunk++)
        {
            target[chunk * 64] = KeyOperands.Of(
                (int)Interop.FloatAsInt(Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 0), -exponent)),
                (int)Interop.FloatAsInt(Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 1), -exponent)),
                (int)Interop.FloatAsInt(Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 2), -exponent)),
                (int)Interop.FloatAsInt(Power(Element<TKey, TShape>(queries, place, chunk, 0, quad, 3), -exponent)));
        }
    }

    // The same for pages' means, of which a lane reads four words of 32 elements at once: the first and the third for one step, the others for the next.
    [MethodImpl(Inlined)]
    private static void StoreForMean<TColumns, TShape>(ArrayView<ushort> queries, QueryPlace place, ArrayView<Words2> target, int part, int exponent)
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int parts = MeanParts<TColumns>();
        for (int step = 0; step < default(TShape).KeyWidth / 16; step++)
        {
            bool isPair = 16 * ((step | 1) + 1) <= default(TShape).KeyWidth;
            int quad = Group.IdxX & 3;
            int first = isPair ? (32 * (step >> 1)) + (8 * quad) + (2 * (step & 1)) : (16 * step) + (4 * quad);
            int second = first + (isPair ? 4 : 2);
            Floats4 x = default;
            x.A = Power(place.Load(queries, first), -exponent);
            x.B = Power(place.Load(queries, first + 1), -exponent);
            x.C = Power(place.Load(queries, second), -exponent);
            x.D = Power(place.Load(queries, second + 1), -exponent);
            for (int i = 0; i < parts; i++)
            {
                target[((step * parts) + i) * 32] = HalfPart(x, default(TColumns).Count == 8 ? i : part);
            }
        }
    }

    // A lane's words of limbs; returns the sum of the query's whole numbers.
    [MethodImpl(Inlined)]
    private static int StoreWhole<TKey, TColumns, TShape>(
        ArrayView<ushort> queries, QueryPlace place, ArrayView<Words2> target, int part, int above, float factor, int stride)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int parts = Parts<TKey, TColumns>();
        int quad = Group.IdxX & 3;
        int sum = 0;
        for (int at = 0; at < Chunks<TKey, TShape>() * default(TKey).Steps; at++)
        {
            for (int i = 0; i < parts; i++)
            {
                // The first limb entered is the highest one.
                int own = default(TColumns).Count == 8 ? i : i == 0 ? part : 2 + part;
                Words2 words = default;
                for (int j = 0; j < 8; j++)
                {
                    int chunk = at / default(TKey).Steps;
                    float x = Element<TKey, TShape>(queries, place, chunk, at - (chunk * default(TKey).Steps), quad, j);
                    int whole = Lane.Round(Power(x, -above) * factor);
                    sum += i == 0 ? whole : 0;
                    int limb = Limb(whole, own) << (8 * (j & 3));
                    words.X |= j < 4 ? limb : 0;
                    words.Y |= j < 4 ? 0 : limb;
                }

                target[((at * parts) + i) * stride] = words;
            }
        }

        sum += Warp.ShuffleXor(sum, 1);
        return sum + Warp.ShuffleXor(sum, 2);
    }

    /// <summary>Limbs 0, 1, 2 from the highest down, as a byte; none beyond.</summary>
    public static int Limb(int whole, int limb)
    {
        int low = (whole << 24) >> 24;
        int rest = (whole - low) >> 8;
        int middle = (rest << 24) >> 24;
        int high = (rest - middle) >> 8;
        return (limb == 0 ? high : limb == 1 ? middle : limb == 2 ? low : 0) & 0xFF;
    }

    [MethodImpl(Inlined)]
    private static Words2 HalfPart(Floats4 x, int part)
    {
        Words2 words = default;
        words.X = Lane.PackHalves(Half(x.A, part), Half(x.B, part));
        words.Y = Lane.PackHalves(Half(x.C, part), Half(x.D, part));
        return words;
    }

    // The only part.
    [MethodImpl(Inlined)]
    private static Words2 Rounded(Floats4 x)
    {
        Words2 words = default;
        words.X = Lane.PackHalves(x.A, x.B);
        words.Y = Lane.PackHalves(x.C, x.D);
        return words;
    }

    [MethodImpl(Inlined)]
    private static Words2 BFloatPart(Floats4 x, int part)
    {
        Words2 words = default;
        words.X = Lane.PackBFloats(BFloat(x.A, part), BFloat(x.B, part));
        words.Y = Lane.PackBFloats(BFloat(x.C, part), BFloat(x.D, part));
        return words;
    }

    /// <summary>The first 11 bits of a number, or what is left.</summary>
    [MethodImpl(Inlined)]
    public static float Half(float x, int part)
    {
        float first = Interop.IntAsFloat(Interop.FloatAsInt(x) & 0xFFFFE000);
        return part == 0 ? first : x - first;
    }

    /// <summary>The first 8 bits of a number, the next 8, or what is left; nothing beyond.</summary>
    [MethodImpl(Inlined)]
    public static float BFloat(float x, int part)
    {
        float first = Interop.IntAsFloat(Interop.FloatAsInt(x) & 0xFFFF0000);
        float rest = x - first;
        float second = Interop.IntAsFloat(Interop.FloatAsInt(rest) & 0xFFFF0000);
        return part == 0 ? first : part == 1 ? second : part == 2 ? rest - second : 0f;
    }

    [MethodImpl(Inlined)]
    private static float Element<TKey, TShape>(ArrayView<ushort> queries, QueryPlace place, int chunk, int step, int quad, int i)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        int element = default(TKey).Element(chunk, step, quad, i);
        return element < default(TShape).KeyWidth ? place.Load(queries, element) : 0f;
    }
}
