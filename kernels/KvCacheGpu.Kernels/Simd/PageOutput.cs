using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Weights of four queries times the values of one page: each vector of elements is expanded once and used by all. Values lie
/// token-major, so that lanes are elements of the output; the accumulators stay in registers over the page.
/// </summary>
internal static unsafe class PageOutput<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const int LineBytes = 64;

    /// <summary>output[query][element] = output * keep[query] + bias[query] + sum over tokens of weights[query][token] * value[token][element].</summary>
    /// <param name="values">The page's values.</param>
    /// <param name="vectorBytes">Bytes from one token's value to the next.</param>
    /// <param name="ahead">Values of the page that is read next.</param>
    /// <param name="weights">f32[4][stride], the codec's factor and scales included.</param>
    /// <param name="stride">From one query's weights to the next.</param>
    /// <param name="tokens">Tokens read.</param>
    /// <param name="output">f32[4][outputStride]; elements beyond the range, up to three lane groups, mean nothing.</param>
    /// <param name="outputStride">At least the width, rounded up to four lane groups.</param>
    /// <param name="from">First element of the range.</param>
    /// <param name="to">First element beyond it.</param>
    /// <param name="keep">f32[4], in a <see cref="SoftmaxState"/>.</param>
    /// <param name="bias">f32[4], in the same.</param>
    /// <param name="rows">Queries: 4, or 8 where there are 32 registers; the numbers of the last four lie in the next state.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate<TValue>(
        byte* values, int vectorBytes, byte* ahead, float* weights, int stride, int tokens, float* output, int outputStride, int from, int to, float* keep, float* bias, int rows)
        where TValue : struct, IValueCodec
    {
        for (int c = from; c < to;)
        {
            byte* fetch = ahead + ((long)c * tokens * TValue.Bits / 8);
            if (S.Lanes == 16 && rows == 8)
            {
                Eight<TValue>(values, vectorBytes, c, fetch, weights, stride, tokens, output + c, outputStride, keep, bias);
                c += 2 * S.Lanes;
            }
            else if (S.Lanes == 16 && to - c > 2 * S.Lanes)
            {
                Four<TValue>(values, vectorBytes, c, fetch, weights, stride, tokens, output + c, outputStride, keep, bias);
                c += 4 * S.Lanes;
            }
            else
            {
                Two<TValue>(values, vectorBytes, c, fetch, weights, stride, tokens, output + c, outputStride, keep, bias);
                c += 2 * S.Lanes;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Four<TValue>(
        byte* values, int vectorBytes, int c, byte* ahead, float* weights, int stride, int tokens, float* output, int outputStride, float* keep, float* bias)
        where TValue : struct, IValueCodec
    {
        float* table = LevelTables.Of(TValue.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F scales = TValue.LaneScales<S, F, I>();
        (I lanes, I thirds) = TValue.Constants<S, F, I>(c);
        (int start, int third) = TValue.BytesTo(c);
        byte* thirdBits = values + third;
        int first = S.Lanes == 1 ? c : 0;
        values += S.Lanes == 1 ? 0 : start;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        F c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        F d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        float* p0 = weights;
        float* p2 = weights + (2 * stride);
        for (int t = 0; t < tokens; t++, values += vectorBytes, thirdBits += vectorBytes)
        {
            F e = TValue.Elements<S, F, I>(values, thirdBits, first, table, low, high, lanes, thirds);
            F f = TValue.Elements<S, F, I>(values, thirdBits, first + S.Lanes, table, low, high, lanes, thirds);
            F g = TValue.Elements<S, F, I>(values, thirdBits, first + (2 * S.Lanes), table, low, high, lanes, thirds);
            F h = TValue.Elements<S, F, I>(values, thirdBits, first + (3 * S.Lanes), table, low, high, lanes, thirds);
            Prefetch(ahead);
            if (4 * S.Lanes * TValue.Bits / 8 > LineBytes)
            {
                Prefetch(ahead + LineBytes);
            }

            if (4 * S.Lanes * TValue.Bits / 8 > 2 * LineBytes)
            {
                Prefetch(ahead + (2 * LineBytes));
                Prefetch(ahead + (3 * LineBytes));
            }

            ahead += 4 * S.Lanes * TValue.Bits / 8;
            F p = S.All(p0[t]);
            a0 = S.MultiplyAdd(e, p, a0);
            b0 = S.MultiplyAdd(f, p, b0);
            c0 = S.MultiplyAdd(g, p, c0);
            d0 = S.MultiplyAdd(h, p, d0);
            p = S.All(p0[t + stride]);
            a1 = S.MultiplyAdd(e, p, a1);
            b1 = S.MultiplyAdd(f, p, b1);
            c1 = S.MultiplyAdd(g, p, c1);
            d1 = S.MultiplyAdd(h, p, d1);
            p = S.All(p2[t]);
            a2 = S.MultiplyAdd(e, p, a2);
            b2 = S.MultiplyAdd(f, p, b2);
            c2 = S.MultiplyAdd(g, p, c2);
            d2 = S.MultiplyAdd(h, p, d2);
            p = S.All(p2[t + stride]);
            a3 = S.MultiplyAdd(e, p, a3);
            b3 = S.MultiplyAdd(f, p, b3);
            c3 = S.MultiplyAdd(g, p, c3);
            d3 = S.MultiplyAdd(h, p, d3);
        }

        Put<TValue>(output, keep[0], bias[0], scales, a0, b0, c0, d0);
        Put<TValue>(output + outputStride, keep[1], bias[1], scales, a1, b1, c1, d1);
        Put<TValue>(output + (2 * outputStride), keep[2], bias[2], scales, a2, b2, c2, d2);
        Put<TValue>(output + (3 * outputStride), keep[3], bias[3], scales, a3, b3, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Eight<TValue>(
        byte* values, int vectorBytes, int c, byte* ahead, float* weights, int stride, int tokens, float* output, int outputStride, float* keep, float* bias)
        where TValue : struct, IValueCodec
    {
        float* table = LevelTables.Of(TValue.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F scales = TValue.LaneScales<S, F, I>();
        (I lanes, I thirds) = TValue.Constants<S, F, I>(c);
        (int start, int third) = TValue.BytesTo(c);
        byte* thirdBits = values + third;
        int first = S.Lanes == 1 ? c : 0;
        values += S.Lanes == 1 ? 0 : start;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        F c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        F d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        float* p0 = weights;
        float* p2 = weights + (2 * stride);
        float* p4 = weights + (4 * stride);
        float* p6 = weights + (6 * stride);
        for (int t = 0; t < tokens; t++, values += vectorBytes, thirdBits += vectorBytes)
        {
            F e = TValue.Elements<S, F, I>(values, thirdBits, first, table, low, high, lanes, thirds);
            F f = TValue.Elements<S, F, I>(values, thirdBits, first + S.Lanes, table, low, high, lanes, thirds);
            Prefetch(ahead);
            if (2 * S.Lanes * TValue.Bits / 8 > LineBytes)
            {
                Prefetch(ahead + LineBytes);
            }

            if (2 * S.Lanes * TValue.Bits / 8 > 2 * LineBytes)
            {
                Prefetch(ahead + (2 * LineBytes));
                Prefetch(ahead + (3 * LineBytes));
            }

            ahead += 2 * S.Lanes * TValue.Bits / 8;
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
            p = S.All(p4[t]);
            c0 = S.MultiplyAdd(e, p, c0);
            d0 = S.MultiplyAdd(f, p, d0);
            p = S.All(p4[t + stride]);
            c1 = S.MultiplyAdd(e, p, c1);
            d1 = S.MultiplyAdd(f, p, d1);
            p = S.All(p6[t]);
            c2 = S.MultiplyAdd(e, p, c2);
            d2 = S.MultiplyAdd(f, p, d2);
            p = S.All(p6[t + stride]);
            c3 = S.MultiplyAdd(e, p, c3);
            d3 = S.MultiplyAdd(f, p, d3);
        }

        Put<TValue>(output, keep[0], bias[0], scales, a0, b0);
        Put<TValue>(output + outputStride, keep[1], bias[1], scales, a1, b1);
        Put<TValue>(output + (2 * outputStride), keep[2], bias[2], scales, a2, b2);
        Put<TValue>(output + (3 * outputStride), keep[3], bias[3], scales, a3, b3);
        output += 4 * outputStride;
        keep += sizeof(SoftmaxState) / sizeof(float);
        bias += sizeof(SoftmaxState) / sizeof(float);
        Put<TValue>(output, keep[0], bias[0], scales, c0, d0);
        Put<TValue>(output + outputStride, keep[1], bias[1], scales, c1, d1);
        Put<TValue>(output + (2 * outputStride), keep[2], bias[2], scales, c2, d2);
        Put<TValue>(output + (3 * outputStride), keep[3], bias[3], scales, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Two<TValue>(
        byte* values, int vectorBytes, int c, byte* ahead, float* weights, int stride, int tokens, float* output, int outputStride, float* keep, float* bias)
        where TValue : struct, IValueCodec
    {
        float* table = LevelTables.Of(TValue.LevelBits);
        F low = S.Load(table);
        F high = S.Lanes == 8 ? S.Load(table + S.Lanes) : low;
        F scales = TValue.LaneScales<S, F, I>();
        (I lanes, I thirds) = TValue.Constants<S, F, I>(c);
        (int start, int third) = TValue.BytesTo(c);
        byte* thirdBits = values + third;
        int first = S.Lanes == 1 ? c : 0;
        values += S.Lanes == 1 ? 0 : start;
        F a0 = S.All(0), a1 = a0, a2 = a0, a3 = a0;
        F b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        float* p0 = weights;
        float* p2 = weights + (2 * stride);
        for (int t = 0; t < tokens; t++, values += vectorBytes, thirdBits += vectorBytes)
        {
            F e = TValue.Elements<S, F, I>(values, thirdBits, first, table, low, high, lanes, thirds);
            F f = TValue.Elements<S, F, I>(values, thirdBits, first + S.Lanes, table, low, high, lanes, thirds);
            Prefetch(ahead);
            if (2 * S.Lanes * TValue.Bits / 8 > LineBytes)
            {
                Prefetch(ahead + LineBytes);
            }

            if (2 * S.Lanes * TValue.Bits / 8 > 2 * LineBytes)
            {
                Prefetch(ahead + (2 * LineBytes));
                Prefetch(ahead + (3 * LineBytes));
            }

            ahead += 2 * S.Lanes * TValue.Bits / 8;
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

        Put<TValue>(output, keep[0], bias[0], scales, a0, b0);
        Put<TValue>(output + outputStride, keep[1], bias[1], scales, a1, b1);
        Put<TValue>(output + (2 * outputStride), keep[2], bias[2], scales, a2, b2);
        Put<TValue>(output + (3 * outputStride), keep[3], bias[3], scales, a3, b3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TValue>(float* to, float keep, float bias, F scales, F a, F b)
        where TValue : struct, IValueCodec
    {
        if (TValue.ScalesLanes)
        {
            (a, b) = (S.Multiply(a, scales), S.Multiply(b, scales));
        }

        F k = S.All(keep), more = S.All(bias);
        S.Store(to, S.Add(S.MultiplyAdd(S.Load(to), k, more), a));
        S.Store(to + S.Lanes, S.Add(S.MultiplyAdd(S.Load(to + S.Lanes), k, more), b));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TValue>(float* to, float keep, float bias, F scales, F a, F b, F c, F d)
        where TValue : struct, IValueCodec
    {
        Put<TValue>(to, keep, bias, scales, a, b);
        Put<TValue>(to + (2 * S.Lanes), keep, bias, scales, c, d);
    }

    // Pages lie anywhere: the next one is fetched here, in address order, which hardware prefetchers pick up.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* line)
    {
        if (S.Lanes > 1 && Sse.IsSupported)
        {
            Sse.Prefetch1(line);
        }
    }
}
