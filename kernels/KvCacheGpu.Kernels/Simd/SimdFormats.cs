namespace KvCacheGpu.Kernels;

/// <summary>From a format known at run time to the kernels compiled for it: the one switch of this tier.</summary>
internal static unsafe class SimdFormats
{
    public static float Factor(PageFormat format) => format == PageFormat.F16 ? SimdF16.Factor : 1f;

    /// <summary>The page's scales as floats in <paramref name="target"/>, or null where the format has none.</summary>
    public static float* ReadScales<S, F, I>(PageFormat format, int* words, int tokens, float* target)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        if (format.ScalePlanes(32) == 0)
        {
            return null;
        }

        F factor = S.All(SimdF16.Factor);
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            S.Store(target + t, S.Multiply(SimdF16.Elements<S, F, I>(words, t), factor));
        }

        return target;
    }

    public static void Logits<S, F, I>(PageLayout layout, int* page, int* ahead, float* q, int tokens, float* logits, int stride)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        switch (layout.KeyFormat)
        {
            case PageFormat.F32:
                PageAttention<S, F, I>.Logits<SimdF32>(page, (byte*)ahead, layout.PageTokens, layout.KeyWords, q, tokens, logits, stride);
                break;
            case PageFormat.F16:
                PageAttention<S, F, I>.Logits<SimdF16>(page, (byte*)ahead, layout.PageTokens, layout.KeyWords, q, tokens, logits, stride);
                break;
            case PageFormat.BF16:
                PageAttention<S, F, I>.Logits<SimdBF16>(page, (byte*)ahead, layout.PageTokens, layout.KeyWords, q, tokens, logits, stride);
                break;
            default:
                PageAttention<S, F, I>.Logits<SimdI8>(page, (byte*)ahead, layout.PageTokens, layout.KeyWords, q, tokens, logits, stride);
                break;
        }
    }

    public static void Accumulate<S, F, I>(
        PageLayout layout, int* page, int* ahead, float* weights, int stride, int tokens, float* output, int outputStride, int width, float* keep)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        int* values = page + layout.ValueOffset;
        int words = layout.ValueWords;
        switch (layout.ValueFormat)
        {
            case PageFormat.F32:
                PageAttention<S, F, I>.Accumulate<SimdF32>(values, (byte*)(ahead + layout.ValueOffset), words, weights, stride, tokens, output, outputStride, width, keep);
                break;
            case PageFormat.F16:
                PageAttention<S, F, I>.Accumulate<SimdF16>(values, (byte*)(ahead + layout.ValueOffset), words, weights, stride, tokens, output, outputStride, width, keep);
                break;
            case PageFormat.BF16:
                PageAttention<S, F, I>.Accumulate<SimdBF16>(values, (byte*)(ahead + layout.ValueOffset), words, weights, stride, tokens, output, outputStride, width, keep);
                break;
            default:
                PageAttention<S, F, I>.Accumulate<SimdI8>(values, (byte*)(ahead + layout.ValueOffset), words, weights, stride, tokens, output, outputStride, width, keep);
                break;
        }
    }
}
