using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>Online softmax (Milakov and Gimelshein 2018) of four queries over one page.</summary>
internal static unsafe class PageSoftmax<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>
    /// Turns raw logits f32[4][stride] into weights: the power of (logit - largest so far) * valueFactor * valueScale; 0 for a token that the
    /// query does not see. Weights beyond the page's tokens mean nothing.
    /// </summary>
    /// <param name="logits">In: raw logits. Out: weights.</param>
    /// <param name="stride">From one query to the next.</param>
    /// <param name="padded">Tokens to write weights for, a multiple of the lanes.</param>
    /// <param name="keyScales">f32[padded], or null.</param>
    /// <param name="keyOffsets">f32[padded], added to logits after multiplication by the queries' means; or null.</param>
    /// <param name="valueScales">f32[padded], or null.</param>
    /// <param name="valueFactor">The value codec's factor.</param>
    /// <param name="state">The queries' running softmax; updated.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Update(
        float* logits, int stride, int padded, float* keyScales, float* keyOffsets, float* valueScales, float valueFactor, SoftmaxState* state)
    {
        bool seesAll = Vector128.GreaterThanOrEqualAll(Vector128.Load(state->Count), Vector128.Create(padded))
            && Vector128.LessThanOrEqualAll(Vector128.Load(state->First), Vector128<int>.Zero);
        Scale(logits, stride, padded, keyScales, keyOffsets, state);
        if (state->CapLift != 0f)
        {
            LogitCap<S, F, I>.Apply(logits, stride, padded, state);
        }

        if (!seesAll)
        {
            Hide(logits, stride, padded, state);
        }

        Vector128<float> page = Vector128.Load(state->PageMaximum), before = Vector128.Load(state->Maximum);
        Vector128<float> maximum = Vector128.ConditionalSelect(Vector128.GreaterThan(page, before), page, before);
        maximum.Store(state->Maximum);

        // Equal, -inf included, is a power of 0: a query that has seen nothing keeps its nothing.
        float* powers = state->Powers;
        Vector128<float> factor = Vector128.Load(state->Factor);
        (Vector128.AndNot(before - maximum, Vector128.Equals(before, maximum)) * factor * state->Lift).Store(powers);
        (Vector128.AndNot(page - maximum, Vector128.Equals(page, maximum)) * factor * state->Lift).Store(powers + 4);
        StoreLogits(page, factor, state);
        for (int i = 0; i < 8; i += S.Lanes)
        {
            S.Store(powers + i, Exp2<S, F, I>.Of(S.Load(powers + i)));
        }

        Vector128<float> keep = Vector128.Load(powers), share = Vector128.Load(powers + 4);
        keep.Store(state->Keep);
        (share * valueFactor).Store(powers + 8);
        if (state->Lift != 1f)
        {
            Raise(logits, stride, padded, state);
        }

        Weigh(logits, stride, padded, valueScales, state->Lift != 1f ? state->Nothing : state->PageMaximum, state);
        ((Vector128.Load(state->Sum) * keep) + (Vector128.Load(state->PageSum) * share)).Store(state->Sum);
    }

    /// <summary>
    /// Weights for a group of elements that has a scale and a minimum: weights = powers * scale, and each query's bias, the sum of
    /// powers * minimum.
    /// </summary>
    /// <param name="powers">f32[4][stride], as <see cref="Update"/> left them.</param>
    /// <param name="stride">From one query to the next.</param>
    /// <param name="tokens">Tokens that count: those beyond may be anything.</param>
    /// <param name="scales">f32[tokens], rounded up to the lanes.</param>
    /// <param name="minima">The same.</param>
    /// <param name="weights">Out: f32[4][stride].</param>
    /// <param name="state">Bias is written.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WeighGroup(float* powers, int stride, int tokens, float* scales, float* minima, float* weights, SoftmaxState* state)
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

        S.SumsOf(a, b, c, d).Store(state->Bias);
    }

    /// <summary>Weights for a block of elements that has a scale, and a zero that all its elements are less by: each query's bias is the sum of its weights times that zero.</summary>
    /// <param name="powers">f32[4][stride], as <see cref="Update"/> left them.</param>
    /// <param name="stride">From one query to the next.</param>
    /// <param name="tokens">Tokens that count: those beyond may be anything.</param>
    /// <param name="scales">f32[tokens], rounded up to the lanes.</param>
    /// <param name="zero">What an element of 0 stands for.</param>
    /// <param name="weights">Out: f32[4][stride].</param>
    /// <param name="state">Bias is written.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WeighBlock(float* powers, int stride, int tokens, float* scales, float zero, float* weights, SoftmaxState* state)
    {
        F a = S.All(0), b = a, c = a, d = a;
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            F scale = S.Load(scales + t);
            scale = t + S.Lanes > tokens ? S.IfLess(S.Add(S.Index(), S.All(t)), S.All(tokens), scale, S.All(0)) : scale;
            float* p = powers + t;
            float* w = weights + t;
            a = Weigh(p, w, scale, a);
            b = Weigh(p + stride, w + stride, scale, b);
            c = Weigh(p + (2 * stride), w + (2 * stride), scale, c);
            d = Weigh(p + (3 * stride), w + (3 * stride), scale, d);
        }

        (S.SumsOf(a, b, c, d) * zero).Store(state->Bias);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Weigh(float* powers, float* weights, F scale, F sum)
    {
        F weight = S.Multiply(S.Load(powers), scale);
        S.Store(weights, weight);
        return S.Add(sum, weight);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Weigh(float* powers, float* weights, F scale, F minimum, F sum)
    {
        F p = S.Load(powers);
        S.Store(weights, S.Multiply(p, scale));
        return S.MultiplyAdd(p, minimum, sum);
    }

    /// <summary>Scales logits where keys have scales, and finds each query's largest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scale(float* logits, int stride, int padded, float* keyScales, float* keyOffsets, SoftmaxState* state)
    {
        F a = S.All(float.NegativeInfinity), b = a, c = a, d = a;
        if (keyScales == null)
        {
            for (int t = 0; t < padded; t += S.Lanes)
            {
                float* p = logits + t;
                a = S.Max(a, S.Load(p));
                b = S.Max(b, S.Load(p + stride));
                c = S.Max(c, S.Load(p + (2 * stride)));
                d = S.Max(d, S.Load(p + (3 * stride)));
            }
        }
        else if (keyOffsets == null)
        {
            for (int t = 0; t < padded; t += S.Lanes)
            {
                F scale = S.Load(keyScales + t);
                float* p = logits + t;
                a = S.Max(a, Scale(p, scale));
                b = S.Max(b, Scale(p + stride, scale));
                c = S.Max(c, Scale(p + (2 * stride), scale));
                d = S.Max(d, Scale(p + (3 * stride), scale));
            }
        }
        else
        {
            F ma = S.All(state->Mean[0]), mb = S.All(state->Mean[1]), mc = S.All(state->Mean[2]), md = S.All(state->Mean[3]);
            for (int t = 0; t < padded; t += S.Lanes)
            {
                F scale = S.Load(keyScales + t), offset = S.Load(keyOffsets + t);
                float* p = logits + t;
                a = S.Max(a, Scale(p, scale, ma, offset));
                b = S.Max(b, Scale(p + stride, scale, mb, offset));
                c = S.Max(c, Scale(p + (2 * stride), scale, mc, offset));
                d = S.Max(d, Scale(p + (3 * stride), scale, md, offset));
            }
        }

        S.LargestOf(a, b, c, d).Store(state->PageMaximum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Scale(float* logits, F scale)
    {
        F s = S.Multiply(S.Load(logits), scale);
        S.Store(logits, s);
        return s;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Scale(float* logits, F scale, F mean, F offset)
    {
        F s = S.MultiplyAdd(offset, mean, S.Multiply(S.Load(logits), scale));
        S.Store(logits, s);
        return s;
    }

    /// <summary>Hides tokens that a query does not see, and finds each query's largest among the rest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Hide(float* logits, int stride, int padded, SoftmaxState* state)
    {
        F none = S.All(float.NegativeInfinity);
        F a = none, b = none, c = none, d = none;
        for (int t = 0; t < padded; t += S.Lanes)
        {
            F index = S.Add(S.Index(), S.All(t));
            float* p = logits + t;
            a = S.Max(a, Hide(p, index, state, 0));
            b = S.Max(b, Hide(p + stride, index, state, 1));
            c = S.Max(c, Hide(p + (2 * stride), index, state, 2));
            d = S.Max(d, Hide(p + (3 * stride), index, state, 3));
        }

        S.LargestOf(a, b, c, d).Store(state->PageMaximum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Hide(float* logits, F index, SoftmaxState* state, int query)
    {
        F none = S.All(float.NegativeInfinity);
        F s = S.IfLess(index, S.All(state->Count[query]), S.Load(logits), none);
        s = S.IfLess(index, S.All(state->First[query]), none, s);
        S.Store(logits, s);
        return s;
    }

    // The page's largest raw logits in natural units; beyond binary32, its largest number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreLogits(Vector128<float> page, Vector128<float> factor, SoftmaxState* state)
    {
        Vector128<float> most = Vector128.Create(float.MaxValue), none = Vector128.Create(float.NegativeInfinity);
        Vector128<float> logits = page * factor * state->Lift * SoftmaxState.NaturalUnit;
        logits = Vector128.MaxNative(Vector128.MinNative(logits, most), -most);
        Vector128.ConditionalSelect(Vector128.Equals(page, none), none, logits).Store(state->PageLogit);
    }

    // Multiplies logits less their query's largest by the second factor: rare, since it takes queries of 2^117 and keys of 32 bits.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Raise(float* logits, int stride, int padded, SoftmaxState* state)
    {
        for (int r = 0; r < 4; r++)
        {
            float largest = MathF.Max(state->PageMaximum[r], float.MinValue);
            for (float* p = logits + (r * stride), end = p + padded; p < end; p++)
            {
                *p = (*p - largest) * state->Lift;
            }
        }
    }

    /// <summary>Turns logits into weights, and finds the sums of each query's powers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Weigh(float* logits, int stride, int padded, float* valueScales, float* largest, SoftmaxState* state)
    {
        // A query that sees nothing of this page has no maximum to subtract: -inf less any number stays -inf and weighs 0.
        F least = S.All(float.MinValue);
        F pa = S.Max(S.All(largest[0]), least), pb = S.Max(S.All(largest[1]), least);
        F pc = S.Max(S.All(largest[2]), least), pd = S.Max(S.All(largest[3]), least);
        F la = S.All(state->Factor[0]), lb = S.All(state->Factor[1]), lc = S.All(state->Factor[2]), ld = S.All(state->Factor[3]);
        float* factors = state->Powers + 8;
        F fa = S.All(factors[0]), fb = S.All(factors[1]), fc = S.All(factors[2]), fd = S.All(factors[3]);
        F a = S.All(0), b = a, c = a, d = a;
        F scale = S.All(1f);
        for (int t = 0; t < padded; t += S.Lanes)
        {
            scale = valueScales != null ? S.Load(valueScales + t) : scale;
            float* p = logits + t;
            a = S.Add(a, Weigh(p, pa, la, S.Multiply(fa, scale)));
            b = S.Add(b, Weigh(p + stride, pb, lb, S.Multiply(fb, scale)));
            c = S.Add(c, Weigh(p + (2 * stride), pc, lc, S.Multiply(fc, scale)));
            d = S.Add(d, Weigh(p + (3 * stride), pd, ld, S.Multiply(fd, scale)));
        }

        S.SumsOf(a, b, c, d).Store(state->PageSum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Weigh(float* logits, F largest, F scale, F factor)
    {
        F p = Exp2<S, F, I>.Of(S.Multiply(S.Subtract(S.Load(logits), largest), scale));
        S.Store(logits, S.Multiply(p, factor));
        return p;
    }
}
