using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Keys with a scale for every block of elements: what a word holds, word-major, lanes are tokens.</summary>
internal interface IBlockKeys
{
    /// <summary>Elements of a word: 4, or 8 whose second four lie half a block further on.</summary>
    static abstract int PerWord { get; }

    /// <summary>Element j of a word, constant at every call, less the format's zero.</summary>
    static abstract F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>q8_0.</summary>
internal struct BlockKeysQ8 : IBlockKeys
{
    public static int PerWord => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => KeysI8.Element<S, F, I>(words, words, j, null, default, default);
}

/// <summary>q4_0: element j is the lower nibble of byte j, or the upper one of byte j - 4.</summary>
internal struct BlockKeysQ4 : IBlockKeys
{
    public static int PerWord => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        // In the fraction of a number with a unit of 1 a nibble is that number plus the nibble.
        int shift = (8 * (j % 4)) + (j / 4 * 4);
        return S.Subtract(S.AsFloat(S.AndXor(shift == 0 ? words : S.ShiftRight(words, shift), S.AllInt(15), S.AllInt(0x4B000000))), S.All(8388616f));
    }
}

/// <summary>
/// Keys of ggml's formats times four queries, read where they lie: each block's products are summed on their own, and times the token's scale added to its logit.
/// </summary>
internal static unsafe class BlockLogits<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>logits[query][token] = sum over blocks of scale[block][token] * sum over elements of q[element][query] * key[token][element].</summary>
    /// <param name="keys">Words of the page's keys, int32[words][pageTokens].</param>
    /// <param name="ahead">Keys of the page that is read next.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    /// <param name="words">Words of one key.</param>
    /// <param name="scales">f32[blocks][stride].</param>
    /// <param name="q">Queries, f32[width][4].</param>
    /// <param name="tokens">Tokens wanted; up to a lane group more are computed and mean nothing.</param>
    /// <param name="logits">f32[4][stride].</param>
    /// <param name="stride">At least the tokens, rounded up to two lane groups.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Compute<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* scales, float* q, int tokens, float* logits, int stride)
        where TKey : struct, IBlockKeys
    {
        for (int t = 0; t < tokens; t += 2 * S.Lanes)
        {
            int* word = keys + t;
            for (int w = 0; w < words; w += GgmlCodes.Elements / TKey.PerWord)
            {
                float* block = q + (4 * w * TKey.PerWord);
                Block<TKey>(word + ((long)w * pageTokens), ahead, pageTokens, scales + t + (w * TKey.PerWord / GgmlCodes.Elements * stride), block, w == 0, logits + t, stride);
                ahead += 2L * S.Lanes * GgmlCodes.Elements / TKey.PerWord * sizeof(int);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Block<TKey>(int* keys, byte* ahead, int pageTokens, float* scales, float* q, bool isFirst, float* logits, int stride)
        where TKey : struct, IBlockKeys
    {
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        for (int w = 0; w < GgmlCodes.Elements / TKey.PerWord; w++, keys += pageTokens, q += 16)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes);
            PageLogits<S, F, I>.Prefetch(ahead);
            PageLogits<S, F, I>.Prefetch(ahead + (S.Lanes * sizeof(int)));
            ahead += 2 * S.Lanes * sizeof(int);
            PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 0), TKey.Element<S, F, I>(b, 0), q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 1), TKey.Element<S, F, I>(b, 1), q + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 2), TKey.Element<S, F, I>(b, 2), q + 8, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 3), TKey.Element<S, F, I>(b, 3), q + 12, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            if (TKey.PerWord == 8)
            {
                float* half = q + (4 * GgmlCodes.Elements / 2);
                PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 4), TKey.Element<S, F, I>(b, 4), half, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 5), TKey.Element<S, F, I>(b, 5), half + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 6), TKey.Element<S, F, I>(b, 6), half + 8, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                PageLogits<S, F, I>.Step(TKey.Element<S, F, I>(a, 7), TKey.Element<S, F, I>(b, 7), half + 12, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            }
        }

        F first = S.Load(scales), second = S.Load(scales + S.Lanes);
        Put(logits, isFirst, first, second, a0, b0);
        Put(logits + stride, isFirst, first, second, a1, b1);
        Put(logits + (2 * stride), isFirst, first, second, a2, b2);
        Put(logits + (3 * stride), isFirst, first, second, a3, b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* to, bool isFirst, F first, F second, F a, F b)
    {
        F zero = S.All(0);
        S.Store(to, S.MultiplyAdd(a, first, isFirst ? zero : S.Load(to)));
        S.Store(to + S.Lanes, S.MultiplyAdd(b, second, isFirst ? zero : S.Load(to + S.Lanes)));
    }
}
