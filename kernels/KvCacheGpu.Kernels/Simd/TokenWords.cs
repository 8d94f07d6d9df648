using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>The words of some tokens, vector by vector, in and out of a page: values lie that way, keys are transposed, a square of registers at a time.</summary>
internal static unsafe class TokenWords<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Words from vector to vector once keys are transposed.</summary>
    public static int StrideOf(int vectorWords) => (vectorWords + S.Lanes - 1) / S.Lanes * S.Lanes;

    /// <summary>Vectors of up to as many tokens as there are lanes: where they lie, or transposed into <paramref name="scratch"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int* Read(in PagePart part, int token, int tokens, int* scratch, out int stride)
    {
        if (!part.IsKeys)
        {
            stride = part.VectorWords;
            return part.Words + ((long)token * stride);
        }

        stride = StrideOf(part.VectorWords);
        int* from = part.Words + token;
        int w = 0;
        for (; w + S.Lanes <= part.VectorWords; w += S.Lanes)
        {
            S.Transpose(from + ((long)w * part.PageTokens), part.PageTokens, scratch + w, stride);
        }

        for (; w < part.VectorWords; w++)
        {
            for (int t = 0; t < tokens; t++)
            {
                scratch[(t * stride) + w] = from[((long)w * part.PageTokens) + t];
            }
        }

        return scratch;
    }

    /// <summary>Writes vectors, whose stride is <see cref="StrideOf"/>, to a page's keys; nothing but these tokens is touched.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WriteKeys(int* vectors, int vectorWords, int* keys, int pageTokens, int token, int tokens)
    {
        int stride = StrideOf(vectorWords);
        int* to = keys + token;
        if (tokens < S.Lanes)
        {
            for (int w = 0; w < vectorWords; w++, to += pageTokens)
            {
                for (int t = 0; t < tokens; t++)
                {
                    to[t] = vectors[(t * stride) + w];
                }
            }

            return;
        }

        int done = 0;
        for (; done + S.Lanes <= vectorWords; done += S.Lanes)
        {
            S.Transpose(vectors + done, stride, to + ((long)done * pageTokens), pageTokens);
        }

        if (done < vectorWords)
        {
            int* square = stackalloc int[S.Lanes * S.Lanes];
            S.Transpose(vectors + done, stride, square, S.Lanes);
            for (int w = done; w < vectorWords; w++, square += S.Lanes)
            {
                S.StoreInt(to + ((long)w * pageTokens), S.LoadInt(square));
            }
        }
    }

    /// <summary>True if an element of a full-precision part is at or above <paramref name="limit"/>, as binary32 bits: NaN is above infinity.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Exceeds(in PagePart part, int tokens, uint limit)
    {
        // Adds to each magnitude the difference between the sign bit and the limit: from the limit on, the sum sets the sign bit. The carry of a
        // half stays in that half.
        (int mask, int add, int sign) = part.Format switch
        {
            PageFormat.F32 => (int.MaxValue, (int)(0x80000000 - limit), int.MinValue),
            PageFormat.F16 => (0x7FFF7FFF, 0x04000400, unchecked((int)0x80008000)),
            _ => (0x7FFF7FFF, (int)(0x8000 - ((limit + 0xFFFF) >> 16)) * 0x10001, unchecked((int)0x80008000)),
        };
        int found = 0;
        if (!part.IsKeys || tokens == part.PageTokens)
        {
            return (Carries(part.Words, part.VectorWords * tokens, mask, add) & sign) != 0;
        }

        for (int w = 0; w < part.VectorWords; w++)
        {
            found |= Carries(part.Words + ((long)w * part.PageTokens), tokens, mask, add);
        }

        return (found & sign) != 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Carries(int* words, int count, int mask, int add)
    {
        I keep = S.AllInt(mask), lack = S.AllInt(add);
        I a = S.AllInt(0), b = S.AllInt(0), c = S.AllInt(0), d = S.AllInt(0);
        int i = 0;
        for (; i + (4 * S.Lanes) <= count; i += 4 * S.Lanes)
        {
            a = S.Or(a, S.AddInt(S.And(S.LoadInt(words + i), keep), lack));
            b = S.Or(b, S.AddInt(S.And(S.LoadInt(words + i + S.Lanes), keep), lack));
            c = S.Or(c, S.AddInt(S.And(S.LoadInt(words + i + (2 * S.Lanes)), keep), lack));
            d = S.Or(d, S.AddInt(S.And(S.LoadInt(words + i + (3 * S.Lanes)), keep), lack));
        }

        int* lanes = stackalloc int[S.Lanes];
        S.StoreInt(lanes, S.Or(S.Or(a, b), S.Or(c, d)));
        int found = 0;
        for (int lane = 0; lane < S.Lanes; lane++)
        {
            found |= lanes[lane];
        }

        for (; i < count; i++)
        {
            found |= (words[i] & mask) + add;
        }

        return found;
    }
}
