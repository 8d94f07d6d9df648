using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>The running softmax of four query rows and what the last page did to it. Logits are in units of log2.</summary>
internal unsafe struct SoftmaxRows
{
    /// <summary>Largest logit so far.</summary>
    public fixed float Maximum[4];

    /// <summary>Sum of 2^(logit - Maximum) so far.</summary>
    public fixed float Sum[4];

    /// <summary>The page's largest logit.</summary>
    public fixed float PageMaximum[4];

    /// <summary>Sum of 2^(logit - PageMaximum) over the page.</summary>
    public fixed float PageSum[4];

    /// <summary>What earlier outputs are multiplied by.</summary>
    public fixed float Keep[4];

    /// <summary>What a raw logit is multiplied by to be in units of log2.</summary>
    public fixed float Factor[4];

    /// <summary>What a token's offset is multiplied by, in units of log2: the query times the page's mean.</summary>
    public fixed float Mean[4];

    /// <summary>Zeros: what is added to an output of a format that has no minimum.</summary>
    public fixed float Nothing[4];

    /// <summary>What is added to a group of outputs: the weights times the group's minimum.</summary>
    public fixed float Bias[4];

    /// <summary>The page's first token that the row sees; at or beyond the count where it sees none.</summary>
    public fixed int First[4];

    /// <summary>The page's first token that the row does not see yet.</summary>
    public fixed int Count[4];

    /// <summary>Rows that have seen nothing.</summary>
    public void Clear()
    {
        for (int r = 0; r < 4; r++)
        {
            (Maximum[r], Sum[r], Nothing[r]) = (float.NegativeInfinity, 0, 0);
        }
    }
}

/// <summary>Online softmax (Milakov and Gimelshein 2018) of four rows over one page.</summary>
internal static unsafe class PageSoftmax<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>
    /// Turns raw logits f32[4][stride] into weights: 2^(logit - largest so far) * valueFactor * valueScale; 0 for a token that the row
    /// does not see. Weights beyond the page's tokens mean nothing.
    /// </summary>
    /// <param name="logits">In: raw logits. Out: weights.</param>
    /// <param name="stride">From one row to the next.</param>
    /// <param name="padded">Tokens to write weights for, a multiple of the lanes.</param>
    /// <param name="keyScales">f32[padded], or null.</param>
    /// <param name="keyOffsets">f32[padded], added to logits times the rows' mean; or null.</param>
    /// <param name="valueScales">f32[padded], or null.</param>
    /// <param name="valueFactor">The value codec's factor.</param>
    /// <param name="rows">The rows' running softmax; updated.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Update(
        float* logits, int stride, int padded, float* keyScales, float* keyOffsets, float* valueScales, float valueFactor, SoftmaxRows* rows)
    {
        float* powers = stackalloc float[16];
        for (int r = 0; r < 4; r++)
        {
            float page = Largest(logits + (r * stride), rows->First[r], rows->Count[r], padded, rows->Factor[r], keyScales, rows->Mean[r], keyOffsets);
            float before = rows->Maximum[r];
            float maximum = page > before ? page : before;
            rows->PageMaximum[r] = page;
            rows->Maximum[r] = maximum;

            // Equal, -inf included, is a power of 0: a row that has seen nothing keeps its nothing.
            powers[r] = before == maximum ? 0f : before - maximum;
            powers[4 + r] = page == maximum ? 0f : page - maximum;
        }

        for (int i = 0; i < 8; i += S.Lanes)
        {
            S.Store(powers + i, Exp2<S, F, I>.Of(S.Load(powers + i)));
        }

        for (int r = 0; r < 4; r++)
        {
            float share = powers[4 + r];
            float sum = Weigh(logits + (r * stride), padded, rows->PageMaximum[r], valueFactor * share, valueScales);
            rows->PageSum[r] = sum;
            rows->Keep[r] = powers[r];
            rows->Sum[r] = (rows->Sum[r] * powers[r]) + (sum * share);
        }
    }

    /// <summary>
    /// Weights for a group of elements that has a scale and a minimum: weights = powers * scale, and the rows' bias, the sum of
    /// powers * minimum.
    /// </summary>
    /// <param name="powers">f32[4][stride], as <see cref="Update"/> left them.</param>
    /// <param name="stride">From one row to the next.</param>
    /// <param name="tokens">Tokens that count: those beyond may be anything.</param>
    /// <param name="scales">f32[tokens], rounded up to the lanes.</param>
    /// <param name="minima">The same.</param>
    /// <param name="weights">Out: f32[4][stride].</param>
    /// <param name="rows">Bias is written.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WeighGroup(float* powers, int stride, int tokens, float* scales, float* minima, float* weights, SoftmaxRows* rows)
    {
        F a = S.All(0), b = a, c = a, d = a;
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            F scale = S.Load(scales + t), minimum = S.Load(minima + t);
            if (t + S.Lanes > tokens)
            {
                F index = S.Add(S.Index(), S.All(t)), end = S.All(tokens), zero = S.All(0);
                (scale, minimum) = (S.IfLess(index, end, scale, zero), S.IfLess(index, end, minimum, zero));
            }

            float* p = powers + t;
            float* w = weights + t;
            a = Weigh(p, w, scale, minimum, a);
            b = Weigh(p + stride, w + stride, scale, minimum, b);
            c = Weigh(p + (2 * stride), w + (2 * stride), scale, minimum, c);
            d = Weigh(p + (3 * stride), w + (3 * stride), scale, minimum, d);
        }

        (rows->Bias[0], rows->Bias[1], rows->Bias[2], rows->Bias[3]) = (S.Sum(a), S.Sum(b), S.Sum(c), S.Sum(d));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Weigh(float* powers, float* weights, F scale, F minimum, F sum)
    {
        F p = S.Load(powers);
        S.Store(weights, S.Multiply(p, scale));
        return S.MultiplyAdd(p, minimum, sum);
    }

    /// <summary>Scales a row's logits, hides what it does not see, and returns the largest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Largest(float* logits, int first, int count, int padded, float factor, float* keyScales, float mean, float* keyOffsets)
    {
        F largest = S.All(float.NegativeInfinity);
        F f = S.All(factor), m = S.All(mean);
        for (int t = 0; t < padded; t += S.Lanes)
        {
            F s = S.Multiply(S.Load(logits + t), f);
            if (keyScales != null)
            {
                s = S.Multiply(s, S.Load(keyScales + t));
            }

            if (keyOffsets != null)
            {
                s = S.MultiplyAdd(S.Load(keyOffsets + t), m, s);
            }

            if (t + S.Lanes > count)
            {
                s = S.IfLess(S.Add(S.Index(), S.All(t)), S.All(count), s, S.All(float.NegativeInfinity));
            }

            if (t < first)
            {
                s = S.IfLess(S.Add(S.Index(), S.All(t)), S.All(first), S.All(float.NegativeInfinity), s);
            }

            S.Store(logits + t, s);
            largest = S.Max(largest, s);
        }

        return S.MaxOf(largest);
    }

    /// <summary>Turns a row's logits into weights and returns the sum of their powers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Weigh(float* logits, int padded, float pageMaximum, float factor, float* valueScales)
    {
        // A row that sees nothing of this page has no maximum to subtract: -inf - 0 stays -inf and weighs 0.
        F shift = S.All(pageMaximum == float.NegativeInfinity ? 0f : pageMaximum);
        F sum = S.All(0f);
        F f = S.All(factor);
        for (int t = 0; t < padded; t += S.Lanes)
        {
            F p = Exp2<S, F, I>.Of(S.Subtract(S.Load(logits + t), shift));
            sum = S.Add(sum, p);
            p = S.Multiply(p, f);
            if (valueScales != null)
            {
                p = S.Multiply(p, S.Load(valueScales + t));
            }

            S.Store(logits + t, p);
        }

        return S.Sum(sum);
    }
}
