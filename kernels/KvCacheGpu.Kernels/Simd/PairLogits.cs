using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Keys of one page times four queries of whole numbers: as <see cref="PageLogits{S, F, I}"/>, with two elements in each product. A product of 16-bit numbers takes as long as
/// one of floats does, so that twice as many are done, and bytes are made ready by fewer instructions than floats are.
/// </summary>
internal static unsafe class PairLogits<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>logits[query][token] = sum over elements of q[element][query] * key[token][element], without the codec's factor.</summary>
    /// <param name="keys">Words of the page's keys, int32[words][pageTokens].</param>
    /// <param name="ahead">Keys of the page that is read next.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    /// <param name="words">Words of one key.</param>
    /// <param name="q">The queries in the codec's order of pairs: <see cref="PairQueries"/>.</param>
    /// <param name="more">Four more queries, only where there are 32 registers; or none.</param>
    /// <param name="tokens">Tokens wanted; up to three lane groups more are computed and mean nothing.</param>
    /// <param name="logits">f32[4][stride], of eight queries f32[8][stride].</param>
    /// <param name="stride">At least the tokens, rounded up to four lane groups.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Compute<TKey>(int* keys, byte* ahead, int pageTokens, int words, in PairQueries q, in PairQueries more, int tokens, float* logits, int stride)
        where TKey : struct, IPairKeys
    {
        for (int t = 0; t < tokens;)
        {
            bool isEight = S.Lanes == 16 && more.Pairs != null;
            int groups = S.Lanes == 16 && !isEight && tokens - t > 2 * S.Lanes ? 4 : 2;
            if (isEight)
            {
                Eight<TKey>(keys + t, ahead, pageTokens, words, q, more, logits + t, stride);
            }
            else if (groups == 4)
            {
                Four<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
            }
            else
            {
                Two<TKey>(keys + t, ahead, pageTokens, words, q, logits + t, stride);
            }

            t += groups * S.Lanes;
            ahead += (long)groups * S.Lanes * words * sizeof(int);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Four<TKey>(int* keys, byte* ahead, int pageTokens, int words, in PairQueries queries, float* logits, int stride)
        where TKey : struct, IPairKeys
    {
        I table = S.RepeatBytes(LevelTables.Bytes);
        int* q = queries.Pairs;
        I a0 = S.AllInt(0), a1 = a0, a2 = a0, a3 = a0;
        I b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        I c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        I d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes), c = S.LoadInt(keys + (2 * S.Lanes)), d = S.LoadInt(keys + (3 * S.Lanes));
            PageLogits<S, F, I>.Prefetch(ahead);
            PageLogits<S, F, I>.Prefetch(ahead + (S.Lanes * sizeof(int)));
            PageLogits<S, F, I>.Prefetch(ahead + (2 * S.Lanes * sizeof(int)));
            PageLogits<S, F, I>.Prefetch(ahead + (3 * S.Lanes * sizeof(int)));
            ahead += 4 * S.Lanes * sizeof(int);
            I e = TKey.Bytes<S, F, I>(a, 0, table), f = TKey.Bytes<S, F, I>(b, 0, table), g = TKey.Bytes<S, F, I>(c, 0, table), h = TKey.Bytes<S, F, I>(d, 0, table);
            Step(S.EvenBytes(e), S.EvenBytes(f), S.EvenBytes(g), S.EvenBytes(h), q,
                ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
            Step(S.OddBytes(e), S.OddBytes(f), S.OddBytes(g), S.OddBytes(h), q + 4,
                ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
            q += 8;
            if (TKey.Halves == 2)
            {
                (e, f, g, h) = (TKey.Bytes<S, F, I>(a, 1, table), TKey.Bytes<S, F, I>(b, 1, table), TKey.Bytes<S, F, I>(c, 1, table), TKey.Bytes<S, F, I>(d, 1, table));
                Step(S.EvenBytes(e), S.EvenBytes(f), S.EvenBytes(g), S.EvenBytes(h), q,
                    ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                Step(S.OddBytes(e), S.OddBytes(f), S.OddBytes(g), S.OddBytes(h), q + 4,
                    ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                q += 8;
            }
        }

        Put(logits, queries, 0, a0, b0);
        Put(logits + (2 * S.Lanes), queries, 0, c0, d0);
        Put(logits + stride, queries, 1, a1, b1);
        Put(logits + stride + (2 * S.Lanes), queries, 1, c1, d1);
        Put(logits + (2 * stride), queries, 2, a2, b2);
        Put(logits + (2 * stride) + (2 * S.Lanes), queries, 2, c2, d2);
        Put(logits + (3 * stride), queries, 3, a3, b3);
        Put(logits + (3 * stride) + (2 * S.Lanes), queries, 3, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Two<TKey>(int* keys, byte* ahead, int pageTokens, int words, in PairQueries queries, float* logits, int stride)
        where TKey : struct, IPairKeys
    {
        I table = S.RepeatBytes(LevelTables.Bytes);
        int* q = queries.Pairs;
        I a0 = S.AllInt(0), a1 = a0, a2 = a0, a3 = a0;
        I b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes);
            PageLogits<S, F, I>.Prefetch(ahead);
            PageLogits<S, F, I>.Prefetch(ahead + (S.Lanes * sizeof(int)));
            ahead += 2 * S.Lanes * sizeof(int);
            I e = TKey.Bytes<S, F, I>(a, 0, table), f = TKey.Bytes<S, F, I>(b, 0, table);
            Step(S.EvenBytes(e), S.EvenBytes(f), q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            Step(S.OddBytes(e), S.OddBytes(f), q + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            q += 8;
            if (TKey.Halves == 2)
            {
                (e, f) = (TKey.Bytes<S, F, I>(a, 1, table), TKey.Bytes<S, F, I>(b, 1, table));
                Step(S.EvenBytes(e), S.EvenBytes(f), q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                Step(S.OddBytes(e), S.OddBytes(f), q + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                q += 8;
            }
        }

        Put(logits, queries, 0, a0, b0);
        Put(logits + stride, queries, 1, a1, b1);
        Put(logits + (2 * stride), queries, 2, a2, b2);
        Put(logits + (3 * stride), queries, 3, a3, b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Eight<TKey>(int* keys, byte* ahead, int pageTokens, int words, in PairQueries queries, in PairQueries more, float* logits, int stride)
        where TKey : struct, IPairKeys
    {
        I table = S.RepeatBytes(LevelTables.Bytes);
        int* q = queries.Pairs, m = more.Pairs;
        I a0 = S.AllInt(0), a1 = a0, a2 = a0, a3 = a0;
        I b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        I c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        I d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes);
            PageLogits<S, F, I>.Prefetch(ahead);
            PageLogits<S, F, I>.Prefetch(ahead + (S.Lanes * sizeof(int)));
            ahead += 2 * S.Lanes * sizeof(int);
            I e = TKey.Bytes<S, F, I>(a, 0, table), f = TKey.Bytes<S, F, I>(b, 0, table), g, h;
            (g, h) = (S.EvenBytes(e), S.EvenBytes(f));
            Step(g, h, q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            Step(g, h, m, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
            (g, h) = (S.OddBytes(e), S.OddBytes(f));
            Step(g, h, q + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
            Step(g, h, m + 4, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
            q += 8;
            m += 8;
            if (TKey.Halves == 2)
            {
                (e, f) = (TKey.Bytes<S, F, I>(a, 1, table), TKey.Bytes<S, F, I>(b, 1, table));
                (g, h) = (S.EvenBytes(e), S.EvenBytes(f));
                Step(g, h, q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                Step(g, h, m, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                (g, h) = (S.OddBytes(e), S.OddBytes(f));
                Step(g, h, q + 4, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
                Step(g, h, m + 4, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                q += 8;
                m += 8;
            }
        }

        Put(logits, queries, 0, a0, b0);
        Put(logits + stride, queries, 1, a1, b1);
        Put(logits + (2 * stride), queries, 2, a2, b2);
        Put(logits + (3 * stride), queries, 3, a3, b3);
        Put(logits + (4 * stride), more, 0, c0, d0);
        Put(logits + (5 * stride), more, 1, c1, d1);
        Put(logits + (6 * stride), more, 2, c2, d2);
        Put(logits + (7 * stride), more, 3, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(
        I e, I f, I g, I h, int* q,
        ref I a0, ref I a1, ref I a2, ref I a3,
        ref I b0, ref I b1, ref I b2, ref I b3,
        ref I c0, ref I c1, ref I c2, ref I c3,
        ref I d0, ref I d1, ref I d2, ref I d3)
    {
        Step(e, f, q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
        Step(g, h, q, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(
        I e, I f, int* q,
        ref I a0, ref I a1, ref I a2, ref I a3,
        ref I b0, ref I b1, ref I b2, ref I b3)
    {
        I x = S.AllInt(q[0]);
        a0 = S.AddInt(a0, S.MultiplyPairs(e, x));
        b0 = S.AddInt(b0, S.MultiplyPairs(f, x));
        x = S.AllInt(q[1]);
        a1 = S.AddInt(a1, S.MultiplyPairs(e, x));
        b1 = S.AddInt(b1, S.MultiplyPairs(f, x));
        x = S.AllInt(q[2]);
        a2 = S.AddInt(a2, S.MultiplyPairs(e, x));
        b2 = S.AddInt(b2, S.MultiplyPairs(f, x));
        x = S.AllInt(q[3]);
        a3 = S.AddInt(a3, S.MultiplyPairs(e, x));
        b3 = S.AddInt(b3, S.MultiplyPairs(f, x));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* to, in PairQueries queries, int query, I a, I b)
    {
        F step = S.All(queries.Steps[query]), offset = S.All(queries.Offsets[query]);
        S.Store(to, S.MultiplyAdd(S.ToFloat(a), step, offset));
        S.Store(to + S.Lanes, S.MultiplyAdd(S.ToFloat(b), step, offset));
    }
}
