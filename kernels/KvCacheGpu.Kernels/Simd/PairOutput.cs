using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Weights of four queries times the values of one page, in whole numbers of 16 bits: as <see cref="PageOutput{S, F, I}"/>, with two tokens in each product. Weights are rounded
/// to 15 bits of the page's largest.
/// </summary>
internal static unsafe class PairOutput<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // A page whose weights are all smaller adds nothing to a sum of 1.
    private const float LeastWeight = 1e-30f;

    /// <summary>Elements that are worked on together: ranges start at multiples of it.</summary>
    public static int Tile => 4 * S.Lanes;

    /// <summary>Rounds four queries' weights.</summary>
    /// <param name="weights">f32[4][stride]; those from the tokens on, up to a lane group, are set to 0.</param>
    /// <param name="stride">From one query's to the next.</param>
    /// <param name="tokens">Tokens that count.</param>
    /// <param name="sums">f32[4]: a query whose sum is not a number has weights that are none.</param>
    /// <param name="pairs">Out: int16[4][stride].</param>
    /// <param name="steps">Out, f32[4]: what their products are multiplied by; then f32[4]: what rounding took from the sum of each query's weights.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Round(float* weights, int stride, int tokens, float* sums, ushort* pairs, float* steps)
    {
        // No sum of products of a page leaves 32 bits: a byte's 128, and tokens of a page, are few.
        const float Most = short.MaxValue;
        F a = S.All(0), b = a, c = a, d = a;
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            float* w = weights + t;
            for (int past = tokens; past < t + S.Lanes; past++)
            {
                (weights[past], weights[past + stride], weights[past + (2 * stride)], weights[past + (3 * stride)]) = (0, 0, 0, 0);
            }

            a = S.Max(a, S.Load(w));
            b = S.Max(b, S.Load(w + stride));
            c = S.Max(c, S.Load(w + (2 * stride)));
            d = S.Max(d, S.Load(w + (3 * stride)));
        }

        Vector128<float> largest = S.LargestOf(a, b, c, d);
        Vector128<float> isNumber = Vector128.Equals(Vector128.Load(sums), Vector128.Load(sums));
        Vector128.ConditionalSelect(isNumber, largest * (1f / Most), Vector128.Create(float.NaN)).Store(steps);
        for (int r = 0; r < 4; r++)
        {
            F scale = S.All(largest[r] > LeastWeight ? Most / largest[r] : 0f), rest = S.All(0f);
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                F exact = S.Multiply(S.Load(weights + (r * stride) + t), scale);
                I rounded = S.Round(exact);
                rest = S.Add(rest, S.Subtract(exact, S.ToFloat(rounded)));
                S.StoreShorts(pairs + (r * stride) + t, rounded);
            }

            (a, b, c, d) = (r == 0 ? rest : a, r == 1 ? rest : b, r == 2 ? rest : c, r == 3 ? rest : d);
        }

        (S.SumsOf(a, b, c, d) * Vector128.Load(steps)).Store(steps + 4);
    }

    /// <summary>output[query][element] = output * keep + bias + step * sum over tokens of weight * value.</summary>
    /// <param name="values">The page's values.</param>
    /// <param name="vectorBytes">Bytes from one token's value to the next.</param>
    /// <param name="ahead">Values of the page that is read next.</param>
    /// <param name="pairs">int16[rows][stride], from <see cref="Round"/>.</param>
    /// <param name="stride">From one query's weights to the next.</param>
    /// <param name="tokens">Tokens read; where they are odd, one more, whose weight is 0.</param>
    /// <param name="output">f32[4][outputStride]; elements beyond the range, up to a tile, mean nothing.</param>
    /// <param name="outputStride">At least the width, rounded up to a tile.</param>
    /// <param name="from">First element of the range.</param>
    /// <param name="to">First element beyond it.</param>
    /// <param name="state">Holds what earlier outputs are multiplied by, four a state.</param>
    /// <param name="isBiased">True if each query's bias is added.</param>
    /// <param name="steps">f32[4] for each four queries, eight numbers apart.</param>
    /// <param name="rows">Queries: 4, or 8 where there are 32 registers.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate<TValue>(
        byte* values, int vectorBytes, byte* ahead, ushort* pairs, int stride, int tokens, float* output, int outputStride, int from, int to, SoftmaxState* state, bool isBiased, float* steps, int rows)
        where TValue : struct, IPairValues
    {
        if (rows == 8 && TValue.Bits == 8)
        {
            for (int c = from; c < to; c += 2 * S.Lanes)
            {
                Eight(values + c, vectorBytes, ahead + ((long)c * tokens), pairs, stride, tokens, output + c, outputStride, state, steps);
            }

            return;
        }

        for (int first = 0; first < rows; first += 4, state++, steps += 8, pairs += 4 * stride, output += 4 * outputStride)
        {
            float* keep = state->Keep, bias = isBiased ? state->Bias : state->Nothing;
            for (int c = from; c < to; c += Tile)
            {
                byte* at = values + (c * TValue.Bits / 8), fetch = ahead + ((long)c * tokens * TValue.Bits / 8);
                if (S.Lanes == 16)
                {
                    Four<TValue>(at, vectorBytes, fetch, pairs, stride, tokens, output + c, outputStride, keep, bias, steps);
                    continue;
                }

                // With 16 registers two queries at a time.
                Two<TValue>(at, vectorBytes, fetch, pairs, stride, tokens, output + c, outputStride, keep, bias, steps);
                Two<TValue>(at, vectorBytes, fetch, pairs + (2 * stride), stride, tokens, output + c + (2 * outputStride), outputStride, keep + 2, bias + 2, steps + 2);
            }
        }
    }

    // Bytes, of which a load holds two vectors: half as many to make ready for each product.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Eight(
        byte* values, int vectorBytes, byte* ahead, ushort* pairs, int stride, int tokens, float* output, int outputStride, SoftmaxState* state, float* steps)
    {
        I a0 = S.AllInt(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
        I b0 = a0, b1 = a0, b2 = a0, b3 = a0, b4 = a0, b5 = a0, b6 = a0, b7 = a0;
        ushort* pairs2 = pairs + (2 * stride), pairs4 = pairs + (4 * stride), pairs6 = pairs + (6 * stride);
        for (int t = 0; t < tokens; t += 2, values += 2 * vectorBytes)
        {
            I x = S.InterleaveShorts(values, values + vectorBytes);
            I e = S.EvenBytes(x), f = S.OddBytes(x);
            PageLogits<S, F, I>.Prefetch(ahead);
            ahead += 4 * S.Lanes;
            Step(e, f, *(int*)(pairs + t), ref a0, ref b0);
            Step(e, f, *(int*)(pairs + t + stride), ref a1, ref b1);
            Step(e, f, *(int*)(pairs2 + t), ref a2, ref b2);
            Step(e, f, *(int*)(pairs2 + t + stride), ref a3, ref b3);
            Step(e, f, *(int*)(pairs4 + t), ref a4, ref b4);
            Step(e, f, *(int*)(pairs4 + t + stride), ref a5, ref b5);
            Step(e, f, *(int*)(pairs6 + t), ref a6, ref b6);
            Step(e, f, *(int*)(pairs6 + t + stride), ref a7, ref b7);
        }

        Put(output, state->Keep[0], steps[0], a0, b0);
        Put(output + outputStride, state->Keep[1], steps[1], a1, b1);
        Put(output + (2 * outputStride), state->Keep[2], steps[2], a2, b2);
        Put(output + (3 * outputStride), state->Keep[3], steps[3], a3, b3);
        output += 4 * outputStride;
        Put(output, state[1].Keep[0], steps[8], a4, b4);
        Put(output + outputStride, state[1].Keep[1], steps[9], a5, b5);
        Put(output + (2 * outputStride), state[1].Keep[2], steps[10], a6, b6);
        Put(output + (3 * outputStride), state[1].Keep[3], steps[11], a7, b7);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Four<TValue>(
        byte* values, int vectorBytes, byte* ahead, ushort* pairs, int stride, int tokens, float* output, int outputStride, float* keep, float* bias, float* steps)
        where TValue : struct, IPairValues
    {
        I a0 = S.AllInt(0), a1 = a0, a2 = a0, a3 = a0;
        I b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        I c0 = a0, c1 = a0, c2 = a0, c3 = a0;
        I d0 = a0, d1 = a0, d2 = a0, d3 = a0;
        ushort* pairs2 = pairs + (2 * stride);
        for (int t = 0; t < tokens; t += 2, values += 2 * vectorBytes)
        {
            (I e, I f, I g, I h) = TValue.Pairs<S, F, I>(values, values + vectorBytes);
            PageLogits<S, F, I>.Prefetch(ahead);
            if (TValue.Bits == 8)
            {
                PageLogits<S, F, I>.Prefetch(ahead + 64);
            }

            ahead += Tile * TValue.Bits / 4;
            Step(e, f, g, h, *(int*)(pairs + t), ref a0, ref b0, ref c0, ref d0);
            Step(e, f, g, h, *(int*)(pairs + t + stride), ref a1, ref b1, ref c1, ref d1);
            Step(e, f, g, h, *(int*)(pairs2 + t), ref a2, ref b2, ref c2, ref d2);
            Step(e, f, g, h, *(int*)(pairs2 + t + stride), ref a3, ref b3, ref c3, ref d3);
        }

        Put<TValue>(output, keep[0], bias[0], steps[0], a0, b0, c0, d0);
        Put<TValue>(output + outputStride, keep[1], bias[1], steps[1], a1, b1, c1, d1);
        Put<TValue>(output + (2 * outputStride), keep[2], bias[2], steps[2], a2, b2, c2, d2);
        Put<TValue>(output + (3 * outputStride), keep[3], bias[3], steps[3], a3, b3, c3, d3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Two<TValue>(
        byte* values, int vectorBytes, byte* ahead, ushort* pairs, int stride, int tokens, float* output, int outputStride, float* keep, float* bias, float* steps)
        where TValue : struct, IPairValues
    {
        I a0 = S.AllInt(0), a1 = a0;
        I b0 = a0, b1 = a0;
        I c0 = a0, c1 = a0;
        I d0 = a0, d1 = a0;
        for (int t = 0; t < tokens; t += 2, values += 2 * vectorBytes)
        {
            (I e, I f, I g, I h) = TValue.Pairs<S, F, I>(values, values + vectorBytes);
            PageLogits<S, F, I>.Prefetch(ahead);
            ahead += Tile * TValue.Bits / 4;
            Step(e, f, g, h, *(int*)(pairs + t), ref a0, ref b0, ref c0, ref d0);
            Step(e, f, g, h, *(int*)(pairs + t + stride), ref a1, ref b1, ref c1, ref d1);
        }

        Put<TValue>(output, keep[0], bias[0], steps[0], a0, b0, c0, d0);
        Put<TValue>(output + outputStride, keep[1], bias[1], steps[1], a1, b1, c1, d1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(I e, I f, I g, I h, int weights, ref I a, ref I b, ref I c, ref I d)
    {
        I p = S.AllInt(weights);
        a = S.AddInt(a, S.MultiplyPairs(e, p));
        b = S.AddInt(b, S.MultiplyPairs(f, p));
        c = S.AddInt(c, S.MultiplyPairs(g, p));
        d = S.AddInt(d, S.MultiplyPairs(h, p));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(I e, I f, int weights, ref I a, ref I b)
    {
        I p = S.AllInt(weights);
        a = S.AddInt(a, S.MultiplyPairs(e, p));
        b = S.AddInt(b, S.MultiplyPairs(f, p));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* to, float keep, float step, I a, I b)
    {
        F k = S.All(keep), s = S.All(step);
        (F x, F y) = S.Zip(S.ToFloat(a), S.ToFloat(b));
        S.Store(to, S.MultiplyAdd(x, s, S.Multiply(S.Load(to), k)));
        S.Store(to + S.Lanes, S.MultiplyAdd(y, s, S.Multiply(S.Load(to + S.Lanes), k)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TValue>(float* to, float keep, float bias, float step, I a, I b, I c, I d)
        where TValue : struct, IPairValues
    {
        F k = S.All(keep), more = S.All(bias), s = S.All(step);
        (F w, F x, F y, F z) = TValue.InOrder<S, F, I>(S.ToFloat(a), S.ToFloat(b), S.ToFloat(c), S.ToFloat(d));
        S.Store(to, S.MultiplyAdd(w, s, S.MultiplyAdd(S.Load(to), k, more)));
        S.Store(to + S.Lanes, S.MultiplyAdd(x, s, S.MultiplyAdd(S.Load(to + S.Lanes), k, more)));
        S.Store(to + (2 * S.Lanes), S.MultiplyAdd(y, s, S.MultiplyAdd(S.Load(to + (2 * S.Lanes)), k, more)));
        S.Store(to + (3 * S.Lanes), S.MultiplyAdd(z, s, S.MultiplyAdd(S.Load(to + (3 * S.Lanes)), k, more)));
    }
}
