using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Keys of one page times four queries: each word is expanded once and used by all. Keys lie word-major, so that lanes are tokens and
/// four accumulators a lane group give four queries' logits without a horizontal sum.
/// </summary>
/// <remarks>
/// With 32 registers (AVX-512) four lane groups are worked on at once: a page of 64 tokens is one pass in address order, and each query
/// element is broadcast once for sixteen products.
/// </remarks>
internal static unsafe class PageLogits<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Queries that share one expansion of the page.</summary>
    public const int Queries = 4;

    /// <summary>logits[query][token] = sum over elements of q[element][query] * key[token][element], without the codec's factor.</summary>
    /// <param name="keys">Words of the page's keys, int32[words][pageTokens].</param>
    /// <param name="ahead">Keys of the page that is read next: fetched line by line as this one is worked on.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    /// <param name="words">Words of one key.</param>
    /// <param name="q">Queries, f32[width][4], zero from the width on.</param>
    /// <param name="more">Four more queries, only where there are 32 registers; or null.</param>
    /// <param name="tokens">Tokens wanted; up to three lane groups more are computed and mean nothing.</param>
    /// <param name="logits">f32[4][stride], of eight queries f32[8][stride].</param>
    /// <param name="stride">At least the tokens, rounded up to four lane groups.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Compute<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* more, int tokens, float* logits, int stride)
        where TKey : struct, IKeyCodec
    {
        for (int t = 0; t < tokens;)
        {
            if (S.Lanes == 16 && more != null)
            {
                EightLogits<S, F, I>.Two<TKey>(keys + t, ahead, pageTokens, words, q, more, logits + t, stride);
                t += 2 * S.Lanes;
                ahead += 2L * S.Lanes * words * sizeof(int);
            }
            else if (S.Lanes == 16 && !TKey.HasThirds && tokens - t > 2 * S.Lanes)
            {
                Four<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
                t += 4 * S.Lanes;
                ahead += 4L * S.Lanes * words * sizeof(int);
            }
            else if (tokens - t > S.Lanes)
            {
                Two<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
                t += 2 * S.Lanes;
                ahead += 2L * S.Lanes * words * sizeof(int);
            }
            else
            {
                One<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
                t += S.Lanes;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Four<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* logits, int stride)
        where TKey : struct, IKeyCodec
    {
        float* table = LevelTables.Of(TKey.LevelBits);
        F low = S.Load(table);
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        F c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        F d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes), c = S.LoadInt(keys + (2 * S.Lanes)), d = S.LoadInt(keys + (3 * S.Lanes));
            Prefetch(ahead);
            Prefetch(ahead + (S.Lanes * sizeof(int)));
            Prefetch(ahead + (2 * S.Lanes * sizeof(int)));
            Prefetch(ahead + (3 * S.Lanes * sizeof(int)));
            ahead += 4 * S.Lanes * sizeof(int);
            int quads = 0;
            do
            {
                Step(TKey.Element<S, F, I>(a, a, 0, table, low, low), TKey.Element<S, F, I>(b, b, 0, table, low, low), TKey.Element<S, F, I>(c, c, 0, table, low, low), TKey.Element<S, F, I>(d, d, 0, table, low, low), q,
                    ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                if (TKey.PerWord >= 2)
                {
                    Step(TKey.Element<S, F, I>(a, a, 1, table, low, low), TKey.Element<S, F, I>(b, b, 1, table, low, low), TKey.Element<S, F, I>(c, c, 1, table, low, low), TKey.Element<S, F, I>(d, d, 1, table, low, low), q + Queries,
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                }

                if (TKey.PerWord >= 4)
                {
                    Step(TKey.Element<S, F, I>(a, a, 2, table, low, low), TKey.Element<S, F, I>(b, b, 2, table, low, low), TKey.Element<S, F, I>(c, c, 2, table, low, low), TKey.Element<S, F, I>(d, d, 2, table, low, low), q + (2 * Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                    Step(TKey.Element<S, F, I>(a, a, 3, table, low, low), TKey.Element<S, F, I>(b, b, 3, table, low, low), TKey.Element<S, F, I>(c, c, 3, table, low, low), TKey.Element<S, F, I>(d, d, 3, table, low, low), q + (3 * Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                }

                q += (TKey.PerWord >= 4 ? 4 : TKey.PerWord) * Queries;
                if (TKey.PerWord > 4)
                {
                    a = S.ShiftRight(a, 128 / TKey.PerWord);
                    b = S.ShiftRight(b, 128 / TKey.PerWord);
                    c = S.ShiftRight(c, 128 / TKey.PerWord);
                    d = S.ShiftRight(d, 128 / TKey.PerWord);
                }

            }
            while (TKey.PerWord > 4 && ++quads < TKey.PerWord / 4);
        }

        Put(logits, a0, b0, c0, d0);
        Put(logits + stride, a1, b1, c1, d1);
        Put(logits + (2 * stride), a2, b2, c2, d2);
        Put(logits + (3 * stride), a3, b3, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Two<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* logits, int stride)
        where TKey : struct, IKeyCodec
    {
        float* table = LevelTables.Of(TKey.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        bool second = false;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes);
            I at = a, bt = b;
            Prefetch(ahead);
            Prefetch(ahead + (S.Lanes * sizeof(int)));
            ahead += 2 * S.Lanes * sizeof(int);
            if (TKey.HasThirds)
            {
                // Of three words the third serves both others; then it is stepped over.
                int* thirds = keys + (second ? pageTokens : 2 * pageTokens);
                (a, at) = ThreeBits.Nibbles<S, F, I>(a, S.LoadInt(thirds), second);
                (b, bt) = ThreeBits.Nibbles<S, F, I>(b, S.LoadInt(thirds + S.Lanes), second);
                w += second ? 1 : 0;
                keys += second ? pageTokens : 0;
                second = !second;
            }

            int quads = 0;
            do
            {
                Step(TKey.Element<S, F, I>(a, at, 0, table, low, high), TKey.Element<S, F, I>(b, bt, 0, table, low, high), q,
                    ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                if (TKey.PerWord >= 2)
                {
                    Step(TKey.Element<S, F, I>(a, at, 1, table, low, high), TKey.Element<S, F, I>(b, bt, 1, table, low, high), q + Queries,
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                }

                if (TKey.PerWord >= 4)
                {
                    Step(TKey.Element<S, F, I>(a, at, 2, table, low, high), TKey.Element<S, F, I>(b, bt, 2, table, low, high), q + (2 * Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                    Step(TKey.Element<S, F, I>(a, at, 3, table, low, high), TKey.Element<S, F, I>(b, bt, 3, table, low, high), q + (3 * Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                }

                q += (TKey.PerWord >= 4 ? 4 : TKey.PerWord) * Queries;
                if (TKey.PerWord > 4)
                {
                    a = S.ShiftRight(a, 128 / TKey.PerWord);
                    b = S.ShiftRight(b, 128 / TKey.PerWord);
                }

                if (TKey.HasThirds)
                {
                    at = S.ShiftRight(at, 8);
                    bt = S.ShiftRight(bt, 8);
                }
            }
            while (TKey.PerWord > 4 && ++quads < TKey.PerWord / 4);
        }

        Put(logits, a0, b0);
        Put(logits + stride, a1, b1);
        Put(logits + (2 * stride), a2, b2);
        Put(logits + (3 * stride), a3, b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void One<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* logits, int stride)
        where TKey : struct, IKeyCodec
    {
        float* table = LevelTables.Of(TKey.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        bool second = false;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys);
            I at = a;
            Prefetch(ahead);
            ahead += S.Lanes * sizeof(int);
            if (TKey.HasThirds)
            {
                // Of three words the third serves both others; then it is stepped over.
                int* thirds = keys + (second ? pageTokens : 2 * pageTokens);
                (a, at) = ThreeBits.Nibbles<S, F, I>(a, S.LoadInt(thirds), second);
                w += second ? 1 : 0;
                keys += second ? pageTokens : 0;
                second = !second;
            }

            int quads = 0;
            do
            {
                Step(TKey.Element<S, F, I>(a, at, 0, table, low, high), q,
                    ref a0, ref a1, ref a2, ref a3);
                if (TKey.PerWord >= 2)
                {
                    Step(TKey.Element<S, F, I>(a, at, 1, table, low, high), q + Queries,
                        ref a0, ref a1, ref a2, ref a3);
                }

                if (TKey.PerWord >= 4)
                {
                    Step(TKey.Element<S, F, I>(a, at, 2, table, low, high), q + (2 * Queries),
                        ref a0, ref a1, ref a2, ref a3);
                    Step(TKey.Element<S, F, I>(a, at, 3, table, low, high), q + (3 * Queries),
                        ref a0, ref a1, ref a2, ref a3);
                }

                q += (TKey.PerWord >= 4 ? 4 : TKey.PerWord) * Queries;
                if (TKey.PerWord > 4)
                {
                    a = S.ShiftRight(a, 128 / TKey.PerWord);
                }

                if (TKey.HasThirds)
                {
                    at = S.ShiftRight(at, 8);
                }
            }
            while (TKey.PerWord > 4 && ++quads < TKey.PerWord / 4);
        }

        S.Store(logits, a0);
        S.Store(logits + stride, a1);
        S.Store(logits + (2 * stride), a2);
        S.Store(logits + (3 * stride), a3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(
        F e, F f, F g, F h, float* q,
        ref F a0, ref F a1, ref F a2, ref F a3,
        ref F b0, ref F b1, ref F b2, ref F b3,
        ref F c0, ref F c1, ref F c2, ref F c3,
        ref F d0, ref F d1, ref F d2, ref F d3)
    {
        F x = S.All(q[0]);
        a0 = S.MultiplyAdd(e, x, a0);
        b0 = S.MultiplyAdd(f, x, b0);
        c0 = S.MultiplyAdd(g, x, c0);
        d0 = S.MultiplyAdd(h, x, d0);
        x = S.All(q[1]);
        a1 = S.MultiplyAdd(e, x, a1);
        b1 = S.MultiplyAdd(f, x, b1);
        c1 = S.MultiplyAdd(g, x, c1);
        d1 = S.MultiplyAdd(h, x, d1);
        x = S.All(q[2]);
        a2 = S.MultiplyAdd(e, x, a2);
        b2 = S.MultiplyAdd(f, x, b2);
        c2 = S.MultiplyAdd(g, x, c2);
        d2 = S.MultiplyAdd(h, x, d2);
        x = S.All(q[3]);
        a3 = S.MultiplyAdd(e, x, a3);
        b3 = S.MultiplyAdd(f, x, b3);
        c3 = S.MultiplyAdd(g, x, c3);
        d3 = S.MultiplyAdd(h, x, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Step(
        F e, F f, float* q,
        ref F a0, ref F a1, ref F a2, ref F a3,
        ref F b0, ref F b1, ref F b2, ref F b3)
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
    private static void Step(
        F e, float* q,
        ref F a0, ref F a1, ref F a2, ref F a3)
    {
        F x = S.All(q[0]);
        a0 = S.MultiplyAdd(e, x, a0);
        x = S.All(q[1]);
        a1 = S.MultiplyAdd(e, x, a1);
        x = S.All(q[2]);
        a2 = S.MultiplyAdd(e, x, a2);
        x = S.All(q[3]);
        a3 = S.MultiplyAdd(e, x, a3);
    }

    // Pages lie anywhere: the next one is fetched here, in address order, which hardware prefetchers pick up.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch(byte* line)
    {
        if (S.Lanes > 1 && Sse.IsSupported)
        {
            Sse.Prefetch1(line);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Put(float* to, F a, F b)
    {
        S.Store(to, a);
        S.Store(to + S.Lanes, b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* to, F a, F b, F c, F d)
    {
        Put(to, a, b);
        Put(to + (2 * S.Lanes), c, d);
    }
}
