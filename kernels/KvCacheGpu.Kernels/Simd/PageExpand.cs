using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// One page's elements as f32 in a worker's scratch, for the loops of F32 pages: formats with scales inside a vector, and chunks of queries,
/// whose many queries would each expand the page anew.
/// </summary>
internal static unsafe class PageExpand<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Keys as f32[width][stride], the codec's factor left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Keys<TKey>(int* keys, int pageTokens, int words, int tokens, float* part, int stride)
        where TKey : struct, IKeyCodec
    {
        float* table = LevelTables.Of(TKey.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        int unit = TKey.HasThirds ? 3 : 1;
        for (int w = 0; w < words; w += unit, keys += unit * pageTokens)
        {
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                float* to = part + t;
                for (int half = 0; half < (TKey.HasThirds ? 2 : 1); half++)
                {
                    I word = S.LoadInt(keys + (half * pageTokens) + t);
                    I odds = word;
                    if (TKey.HasThirds)
                    {
                        (word, odds) = ThreeBits.Nibbles<S, F, I>(word, S.LoadInt(keys + (2 * pageTokens) + t), half == 1);
                    }

                    for (int e = 0; e < TKey.PerWord; e += 4, to += 4 * stride)
                    {
                        S.Store(to, TKey.Element<S, F, I>(word, odds, 0, table, low, high));
                        S.Store(to + stride, TKey.Element<S, F, I>(word, odds, 1, table, low, high));
                        S.Store(to + (2 * stride), TKey.Element<S, F, I>(word, odds, 2, table, low, high));
                        S.Store(to + (3 * stride), TKey.Element<S, F, I>(word, odds, 3, table, low, high));
                        word = S.ShiftRight(word, TKey.PerWord > 4 ? 128 / TKey.PerWord : 0);
                        odds = S.ShiftRight(odds, 8);
                    }
                }
            }

            part += (TKey.HasThirds ? 2 : 1) * TKey.PerWord * stride;
        }
    }

    /// <summary>Keys of blocks of bytes, each times its token's scale for the block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void KeysQ8(int* keys, int pageTokens, int words, int tokens, float* scales, int scaleStride, float* part, int stride)
    {
        for (int w = 0; w < words; w++, keys += pageTokens, part += 4 * stride)
        {
            float* d = scales + (4 * w / GgmlCodes.Elements * scaleStride);
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                I word = S.LoadInt(keys + t);
                F scale = S.Load(d + t);
                S.Store(part + t, S.Multiply(SimdI8.Element<S, F, I>(word, 0), scale));
                S.Store(part + stride + t, S.Multiply(SimdI8.Element<S, F, I>(word, 1), scale));
                S.Store(part + (2 * stride) + t, S.Multiply(SimdI8.Element<S, F, I>(word, 2), scale));
                S.Store(part + (3 * stride) + t, S.Multiply(SimdI8.Element<S, F, I>(word, 3), scale));
            }
        }
    }

    /// <summary>Keys of blocks of nibbles: a byte holds the elements e and e + 16 of its block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void KeysQ4(int* keys, int pageTokens, int words, int tokens, float* scales, int scaleStride, float* part, int stride)
    {
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            float* to = part + (((w / 4 * GgmlCodes.Elements) + (w % 4 * 4)) * stride);
            float* d = scales + (w / 4 * scaleStride);
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                I word = S.LoadInt(keys + t);
                F scale = S.Load(d + t);
                float* x = to + t;
                for (int j = 0; j < 4; j++, x += stride)
                {
                    S.Store(x, S.Multiply(Nibble(word), scale));
                    S.Store(x + (16 * stride), S.Multiply(Nibble(S.ShiftRight(word, 4)), scale));
                    word = S.ShiftRight(word, 8);
                }
            }
        }
    }

    /// <summary>Values as f32[tokens][stride], scales left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Values<TValue>(byte* values, int vectorBytes, int width, int tokens, float* vectors, int stride)
        where TValue : struct, IValueCodec
    {
        float* table = LevelTables.Of(TValue.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        (I lanes, I thirds) = TValue.Constants<S, F, I>(0);
        (_, I moreThirds) = TValue.Constants<S, F, I>(16);
        F scales = TValue.LaneScales<S, F, I>();
        for (int t = 0; t < tokens; t++, values += vectorBytes, vectors += stride)
        {
            for (int e = 0; e < width; e += S.Lanes)
            {
                F x;
                if (S.Lanes == 1)
                {
                    x = TValue.Elements<S, F, I>(values, values, e, table, low, high, lanes, thirds);
                }
                else if (S.Lanes == 16)
                {
                    (int vector, int third) = TValue.BytesTo(e & ~16);
                    x = (e & 16) == 0
                        ? TValue.Elements<S, F, I>(values + vector, values + third, 0, table, low, high, lanes, thirds)
                        : TValue.Elements<S, F, I>(values + vector, values + third, 16, table, low, high, lanes, thirds);
                }
                else
                {
                    (int vector, int third) = TValue.BytesTo(e & ~8);
                    I own = (e & 16) == 0 ? thirds : moreThirds;
                    x = (e & 8) == 0
                        ? TValue.Elements<S, F, I>(values + vector, values + third, 0, table, low, high, lanes, own)
                        : TValue.Elements<S, F, I>(values + vector, values + third, 8, table, low, high, lanes, own);
                }

                S.Store(vectors + e, TValue.ScalesLanes ? S.Multiply(x, scales) : x);
            }
        }
    }

    /// <summary>Values of V4 with their scales and minima: groups of any multiple of eight.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ValuesV4(byte* values, int vectorBytes, int width, int tokens, int group, float* scales, int scaleStride, float* vectors, int stride)
    {
        Values<ValuesV4>(values, vectorBytes, width, tokens, vectors, stride);
        for (int t = 0; t < tokens; t++, vectors += stride)
        {
            float* s = scales + t;
            for (int e = 0; e < width; s += 2 * scaleStride)
            {
                Vector256<float> scale = Vector256.Create(s[0]), minimum = Vector256.Create(s[scaleStride]);
                for (int end = e + group; e < end; e += 8)
                {
                    ((Vector256.Load(vectors + e) * scale) + minimum).Store(vectors + e);
                }
            }
        }
    }

    /// <summary>Values of blocks of bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ValuesQ8(byte* values, int vectorBytes, int width, int tokens, float* scales, int scaleStride, float* vectors, int stride)
    {
        for (int t = 0; t < tokens; t++, values += vectorBytes, vectors += stride)
        {
            for (int e = 0; e < width; e += S.Lanes)
            {
                F scale = S.All(scales[(e / GgmlCodes.Elements * scaleStride) + t]);
                S.Store(vectors + e, S.Multiply(S.ToFloat(S.WidenInt8((sbyte*)values + e)), scale));
            }
        }
    }

    /// <summary>Values of blocks of nibbles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ValuesQ4(byte* values, int vectorBytes, int width, int tokens, float* scales, int scaleStride, float* vectors, int stride)
    {
        for (int t = 0; t < tokens; t++, values += vectorBytes, vectors += stride)
        {
            for (int block = 0; block < width / GgmlCodes.Elements; block++)
            {
                F scale = S.All(scales[(block * scaleStride) + t]);
                float* to = vectors + (block * GgmlCodes.Elements);
                for (int i = 0; i < 16; i += S.Lanes)
                {
                    I bytes = S.WidenInt8((sbyte*)values + (16 * block) + i);
                    S.Store(to + i, S.Multiply(Nibble(bytes), scale));
                    S.Store(to + 16 + i, S.Multiply(Nibble(S.ShiftRight(bytes, 4)), scale));
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Nibble(I word) => S.ToFloat(S.AddInt(S.And(word, S.AllInt(15)), S.AllInt(-8)));
}
