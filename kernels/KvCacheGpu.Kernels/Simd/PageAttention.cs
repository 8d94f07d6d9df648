using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The inner loops of attention over one page, for four query rows at once: each word of the page is expanded once and used by all.
/// </summary>
/// <remarks>
/// Keys lie word-major, so that lanes are tokens and four accumulators a lane group give four rows' logits without a horizontal sum.
/// Values lie token-major, so that lanes are elements of the output.
/// </remarks>
internal static unsafe class PageAttention<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Query rows that share one expansion of the page.</summary>
    public const int Rows = 4;

    /// <summary>logits[row][token] = sum over elements of q[element][row] * key[token][element], without the codec's factor.</summary>
    /// <param name="keys">Words of the page's keys, int32[words][pageTokens].</param>
    /// <param name="ahead">Keys of the page that is read next: fetched line by line as this one is worked on.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    /// <param name="words">Words of one key.</param>
    /// <param name="q">Queries, f32[width][4].</param>
    /// <param name="tokens">Tokens wanted; up to a lane group more are computed and mean nothing.</param>
    /// <param name="logits">f32[4][stride].</param>
    /// <param name="stride">At least the tokens, rounded up to two lane groups.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Logits<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, int tokens, float* logits, int stride)
        where TKey : struct, ISimdCodec
    {
        for (int t = 0; t < tokens; t += 2 * S.Lanes)
        {
            if (tokens - t <= S.Lanes)
            {
                LastLogits<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
                return;
            }

            F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
            int* k = keys + t;
            float* x = q;
            for (int w = 0; w < words; w++, k += pageTokens)
            {
                I u = S.LoadInt(k), v = S.LoadInt(k + S.Lanes);
                Prefetch(ahead);
                Prefetch(ahead + (S.Lanes * sizeof(int)));
                ahead += 2 * S.Lanes * sizeof(int);
                Step(TKey.Element<S, F, I>(u, 0), TKey.Element<S, F, I>(v, 0), x, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                if (TKey.PerWord >= 2)
                {
                    Step(TKey.Element<S, F, I>(u, 1), TKey.Element<S, F, I>(v, 1), x + Rows, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                }

                if (TKey.PerWord == 4)
                {
                    Step(TKey.Element<S, F, I>(u, 2), TKey.Element<S, F, I>(v, 2), x + (2 * Rows), ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                    Step(TKey.Element<S, F, I>(u, 3), TKey.Element<S, F, I>(v, 3), x + (3 * Rows), ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                }

                x += TKey.PerWord * Rows;
            }

            float* to = logits + t;
            Put(to, a0, b0);
            Put(to + stride, a1, b1);
            Put(to + (2 * stride), a2, b2);
            Put(to + (3 * stride), a3, b3);
        }
    }

    /// <summary>The same for one lane group: pages of 16 tokens, and the end of an open page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void LastLogits<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* logits, int stride)
        where TKey : struct, ISimdCodec
    {
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        for (int w = 0; w < words; w++, keys += pageTokens, q += TKey.PerWord * Rows)
        {
            I u = S.LoadInt(keys);
            Prefetch(ahead);
            ahead += S.Lanes * sizeof(int);
            Step(TKey.Element<S, F, I>(u, 0), q, ref a0, ref a1, ref a2, ref a3);
            if (TKey.PerWord >= 2)
            {
                Step(TKey.Element<S, F, I>(u, 1), q + Rows, ref a0, ref a1, ref a2, ref a3);
            }

            if (TKey.PerWord == 4)
            {
                Step(TKey.Element<S, F, I>(u, 2), q + (2 * Rows), ref a0, ref a1, ref a2, ref a3);
                Step(TKey.Element<S, F, I>(u, 3), q + (3 * Rows), ref a0, ref a1, ref a2, ref a3);
            }
        }

        S.Store(logits, a0);
        S.Store(logits + stride, a1);
        S.Store(logits + (2 * stride), a2);
        S.Store(logits + (3 * stride), a3);
    }

    /// <summary>output[row][element] = output * keep[row] + sum over tokens of weights[row][token] * value[token][element].</summary>
    /// <param name="values">Words of the page's values, int32[tokens][words].</param>
    /// <param name="ahead">Values of the page that is read next.</param>
    /// <param name="words">Words of one value.</param>
    /// <param name="weights">f32[4][stride], the codec's factor and scales included.</param>
    /// <param name="stride">From one row's weights to the next.</param>
    /// <param name="tokens">Tokens read.</param>
    /// <param name="output">f32[4][outputStride]; elements beyond the width, up to two lane groups, mean nothing.</param>
    /// <param name="outputStride">At least the width, rounded up to two lane groups.</param>
    /// <param name="width">Elements of one value.</param>
    /// <param name="keep">f32[4].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate<TValue>(
        int* values, byte* ahead, int words, float* weights, int stride, int tokens, float* output, int outputStride, int width, float* keep)
        where TValue : struct, ISimdCodec
    {
        for (int c = 0; c < width; c += 2 * S.Lanes)
        {
            float* o = output + c;
            F k0 = S.All(keep[0]), k1 = S.All(keep[1]), k2 = S.All(keep[2]), k3 = S.All(keep[3]);
            F a0 = S.Multiply(S.Load(o), k0), b0 = S.Multiply(S.Load(o + S.Lanes), k0);
            o += outputStride;
            F a1 = S.Multiply(S.Load(o), k1), b1 = S.Multiply(S.Load(o + S.Lanes), k1);
            o += outputStride;
            F a2 = S.Multiply(S.Load(o), k2), b2 = S.Multiply(S.Load(o + S.Lanes), k2);
            o += outputStride;
            F a3 = S.Multiply(S.Load(o), k3), b3 = S.Multiply(S.Load(o + S.Lanes), k3);
            int* v = values;
            float* p0 = weights;
            float* p2 = weights + (2 * stride);
            for (int t = 0; t < tokens; t++, v += words)
            {
                F e = TValue.Elements<S, F, I>(v, c), f = TValue.Elements<S, F, I>(v, c + S.Lanes);
                Prefetch(ahead);
                ahead += 2 * S.Lanes * sizeof(int) / TValue.PerWord;
                F p = S.All(p0[t]);
                a0 = S.MultiplyAdd(e, p, a0);
                b0 = S.MultiplyAdd(f, p, b0);
                p = S.All(p0[t + stride]);
                a1 = S.MultiplyAdd(e, p, a1);
                b1 = S.MultiplyAdd(f, p, b1);
                p = S.All(p2[t]);
                a2 = S.MultiplyAdd(e, p, a2);
                b2 = S.MultiplyAdd(f, p, b2);
                p = S.All(p2[t + stride]);
                a3 = S.MultiplyAdd(e, p, a3);
                b3 = S.MultiplyAdd(f, p, b3);
            }

            o = output + c;
            Put(o, a0, b0);
            Put(o + outputStride, a1, b1);
            Put(o + (2 * outputStride), a2, b2);
            Put(o + (3 * outputStride), a3, b3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(
        F e, F f, float* q, ref F a0, ref F a1, ref F a2, ref F a3, ref F b0, ref F b1, ref F b2, ref F b3)
    {
        F x = S.All(q[0]);
        a0 = S.MultiplyAdd(e, x, a0);
        b0 = S.MultiplyAdd(f, x, b0);
        x = S.All(q[1]);
        a1 = S.MultiplyAdd(e, x, a1);
        b1 = S.MultiplyAdd(f, x, b1);
        x = S.All(q[2]);
        a2 = S.MultiplyAdd(e, x, a2);
        b2 = S.MultiplyAdd(f, x, b2);
        x = S.All(q[3]);
        a3 = S.MultiplyAdd(e, x, a3);
        b3 = S.MultiplyAdd(f, x, b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(F e, float* q, ref F a0, ref F a1, ref F a2, ref F a3)
    {
        a0 = S.MultiplyAdd(e, S.All(q[0]), a0);
        a1 = S.MultiplyAdd(e, S.All(q[1]), a1);
        a2 = S.MultiplyAdd(e, S.All(q[2]), a2);
        a3 = S.MultiplyAdd(e, S.All(q[3]), a3);
    }

    // Pages lie anywhere and are read in strides, which hardware prefetchers lose: the next one is fetched here, in address order,
    // which they pick up.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* line)
    {
        if (S.Lanes > 1 && Sse.IsSupported)
        {
            Sse.Prefetch1(line);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* to, F a, F b)
    {
        S.Store(to, a);
        S.Store(to + S.Lanes, b);
    }
}
