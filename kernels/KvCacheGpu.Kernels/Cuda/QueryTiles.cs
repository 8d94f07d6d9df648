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

    // The largest limbs: 127 * (65536 + 256 + 1).
    private const float LargestWhole = 8355711f;

    /// <summary>Words2 of a lane for a step of mma: parts of a query that are entered one after the other.</summary>
    public static int Parts<TKey, TColumns>()
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns => default(TKey).Parts - default(TColumns).Joined;

    /// <summary>Steps of mma that take keys of a width.</summary>
    public static int Steps<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => Chunks<TKey, TShape>() * default(TKey).Steps;

    /// <summary>Chunks of keys; of the last one some lanes may have no words.</summary>
    public static int Chunks<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape =>
        (default(TShape).KeyWidth + ChunkElements<TKey>() - 1) / ChunkElements<TKey>();

    /// <summary>Elements that a chunk's lanes hold together.</summary>
    public static int ChunkElements<TKey>()
        where TKey : struct, IKeyTiles =>
        default(TKey).Steps * default(TKey).StepElements;

    /// <summary>
    /// The power of two above the largest element of a lane's query, as an exponent; the four lanes of a query share it.
    /// </summary>
    [MethodImpl(Inlined)]
    public static float Largest<TShape>(ArrayView<ushort> queries, QueryPlace place, int quad)
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

    /// <summary>The factor that queries with a largest element are multiplied by is 2^-<c>result</c>.</summary>
    [MethodImpl(Inlined)]
    public static int Exponent<TKey>(float largest)
        where TKey : struct, IKeyTiles
    {
        int above = largest > 0f ? PortableMath.ExponentAbove(largest) : 0;

        // To below 2^15 in binary16; in bfloat16 to below 2^-11, as keys go up to 2^128 there.
        return default(TKey).Arithmetic == TileArithmetic.BFloats ? above + 11 : above - 15;
    }

    /// <summary>Writes a lane's words of binary16 or bfloat16 parts. <paramref name="part"/>: the part of this lane's column where columns are parts, else 0.</summary>
    [MethodImpl(Inlined)]
    public static void Store<TKey, TColumns, TShape>(ArrayView<ushort> queries, QueryPlace place, ArrayView<Words2> target, int quad, int part, int exponent)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        int parts = Parts<TKey, TColumns>();
        float low = PortableMath.PowerOf(-exponent / 2);
        float high = PortableMath.PowerOf(-exponent - (-exponent / 2));
        for (int chunk = 0; chunk < Chunks<TKey, TShape>(); chunk++)
        {
            for (int step = 0; step < default(TKey).Steps; step++)
            {
                float x0 = Element<TKey, TShape>(queries, place, chunk, step, quad, 0) * low * high;
                float x1 = Element<TKey, TShape>(queries, place, chunk, step, quad, 1) * low * high;
                float x2 = Element<TKey, TShape>(queries, place, chunk, step, quad, 2) * low * high;
                float x3 = Element<TKey, TShape>(queries, place, chunk, step, quad, 3) * low * high;
                for (int i = 0; i < parts; i++)
                {
                    int own = default(TColumns).Count == 8 ? i : i == 0 ? part : part == 0 ? 2 : 3;
                    Words2 words = default;
                    words.X = default(TKey).Arithmetic == TileArithmetic.Halves
                        ? Lane.PackHalves(Half(x0, own), Half(x1, own))
                        : Lane.PackBFloats(BFloat(x0, own), BFloat(x1, own));
                    words.Y = default(TKey).Arithmetic == TileArithmetic.Halves
                        ? Lane.PackHalves(Half(x2, own), Half(x3, own))
                        : Lane.PackBFloats(BFloat(x2, own), BFloat(x3, own));
                    target[((((chunk * default(TKey).Steps) + step) * parts) + i) * 32] = words;
                }
            }
        }
    }

    /// <summary>The first 11 bits of a number, or what is left; nothing beyond.</summary>
    [MethodImpl(Inlined)]
    public static float Half(float x, int part)
    {
        float first = Interop.IntAsFloat(Interop.FloatAsInt(x) & 0xFFFFE000);
        return part == 0 ? first : part == 1 ? x - first : 0f;
    }

    /// <summary>The first 8 bits of a number, the next 8, or what is left.</summary>
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
