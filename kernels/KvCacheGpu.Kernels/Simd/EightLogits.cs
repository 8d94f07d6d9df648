using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Keys of one page times eight queries, two blocks of four: half the words to expand for each product. It takes 32 registers, sixteen of them for sums, so that lane groups come in twos.
/// </summary>
internal static unsafe class EightLogits<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Logits of two lane groups of tokens, without the codec's factor: as <see cref="PageLogits{S, F, I}.Compute"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Two<TKey>(int* keys, byte* ahead, int pageTokens, int words, float* q, float* more, float* logits, int stride)
        where TKey : struct, IKeyCodec
    {
        float* table = LevelTables.Of(TKey.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        F c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        F d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        bool second = false;
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            I a = S.LoadInt(keys), b = S.LoadInt(keys + S.Lanes);
            I at = a, bt = b;
            PageLogits<S, F, I>.Prefetch(ahead);
            PageLogits<S, F, I>.Prefetch(ahead + (S.Lanes * sizeof(int)));
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
                Step(TKey.Element<S, F, I>(a, at, 0, table, low, high), TKey.Element<S, F, I>(b, bt, 0, table, low, high), q, more,
                    ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                if (TKey.PerWord >= 2)
                {
                    Step(TKey.Element<S, F, I>(a, at, 1, table, low, high), TKey.Element<S, F, I>(b, bt, 1, table, low, high), q + PageLogits<S, F, I>.Queries, more + PageLogits<S, F, I>.Queries,
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                }

                if (TKey.PerWord >= 4)
                {
                    Step(TKey.Element<S, F, I>(a, at, 2, table, low, high), TKey.Element<S, F, I>(b, bt, 2, table, low, high), q + (2 * PageLogits<S, F, I>.Queries), more + (2 * PageLogits<S, F, I>.Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                    Step(TKey.Element<S, F, I>(a, at, 3, table, low, high), TKey.Element<S, F, I>(b, bt, 3, table, low, high), q + (3 * PageLogits<S, F, I>.Queries), more + (3 * PageLogits<S, F, I>.Queries),
                        ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
                }

                q += (TKey.PerWord >= 4 ? 4 : TKey.PerWord) * PageLogits<S, F, I>.Queries;
                more += (TKey.PerWord >= 4 ? 4 : TKey.PerWord) * PageLogits<S, F, I>.Queries;
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

        PageLogits<S, F, I>.Put(logits, a0, b0);
        PageLogits<S, F, I>.Put(logits + stride, a1, b1);
        PageLogits<S, F, I>.Put(logits + (2 * stride), a2, b2);
        PageLogits<S, F, I>.Put(logits + (3 * stride), a3, b3);
        PageLogits<S, F, I>.Put(logits + (4 * stride), c0, d0);
        PageLogits<S, F, I>.Put(logits + (5 * stride), c1, d1);
        PageLogits<S, F, I>.Put(logits + (6 * stride), c2, d2);
        PageLogits<S, F, I>.Put(logits + (7 * stride), c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(
        F e, F f, float* q, float* more,
        ref F a0, ref F a1, ref F a2, ref F a3,
        ref F b0, ref F b1, ref F b2, ref F b3,
        ref F c0, ref F c1, ref F c2, ref F c3,
        ref F d0, ref F d1, ref F d2, ref F d3)
    {
        PageLogits<S, F, I>.Step(e, f, q, ref a0, ref a1, ref a2, ref a3, ref b0, ref b1, ref b2, ref b3);
        PageLogits<S, F, I>.Step(e, f, more, ref c0, ref c1, ref c2, ref c3, ref d0, ref d1, ref d2, ref d3);
    }
}
