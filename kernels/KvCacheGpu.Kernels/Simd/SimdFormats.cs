using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>From a format known at run time to the kernels compiled for it: the one switch of this tier.</summary>
internal static unsafe class SimdFormats
{
    public static float Factor(PageFormat format) => format switch
    {
        PageFormat.F16 => SimdF16.Factor,
        PageFormat.FP8 => SimdFP8.Factor,
        PageFormat.V3 => Levels.Step(3),
        PageFormat.V2 => Levels.Step(2),
        _ => 1f,
    };

    /// <summary>True if keys are expanded to floats first (<see cref="PageExpand{S, F, I}"/>).</summary>
    /// <param name="format">The keys' format.</param>
    /// <param name="isChunk">True if many queries attend to the page.</param>
    public static bool ExpandsKeys(PageFormat format, bool isChunk) =>
        isChunk && (format is PageFormat.Q8 or PageFormat.Q4 || format.IsCentered());

    /// <summary>The same of values; V4 needs groups that tiles of two lane groups divide.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool ExpandsValues<S, F, I>(PageFormat format, int width, bool isChunk)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => format switch
        {
            PageFormat.Q8 or PageFormat.Q4 => isChunk,
            PageFormat.V4 => isChunk || format.ScaleGroup(width) % (2 * S.Lanes) != 0,
            PageFormat.V3 or PageFormat.V2 => isChunk,
            _ => false,
        };

    /// <summary>True if fast attention reads such keys in whole numbers.</summary>
    public static bool HasPairKeys(PageFormat format) => format is PageFormat.I8 or PageFormat.T4;

    /// <summary>The same of values; V4 needs groups that tiles divide.</summary>
    public static bool HasPairValues<S, F, I>(PageFormat format, int width)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => format == PageFormat.I8 || (format == PageFormat.V4 && format.ScaleGroup(width) % PairOutput<S, F, I>.Tile == 0);

    /// <summary>Planes of scales as floats, f32[planes][stride].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ReadScales<S, F, I>(int* words, int planes, int scaleStride, int tokens, float* target, int stride)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        F factor = S.All(SimdF16.Factor);
        for (int plane = 0; plane < planes; plane++, words += scaleStride / 2, target += stride)
        {
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                S.Store(target + t, S.Multiply(SimdF16.Elements<S, F, I>(words, t), factor));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Logits<S, F, I>(PageFormat format, int* keys, byte* ahead, int pageTokens, int words, float* q, float* more, int tokens, float* logits, int stride)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        switch (format)
        {
            case PageFormat.F32:
                PageLogits<S, F, I>.Compute<Whole<SimdF32>>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.F16:
                PageLogits<S, F, I>.Compute<Whole<SimdF16>>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.BF16:
                PageLogits<S, F, I>.Compute<Whole<SimdBF16>>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.I8:
                PageLogits<S, F, I>.Compute<KeysI8>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.FP8:
                PageLogits<S, F, I>.Compute<Whole<SimdFP8>>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.T4:
                PageLogits<S, F, I>.Compute<KeysT4>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.T3:
                PageLogits<S, F, I>.Compute<KeysT3>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            case PageFormat.T2:
                PageLogits<S, F, I>.Compute<KeysT2>(keys, ahead, pageTokens, words, q, more, tokens, logits, stride);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(format), format, "expected a format of keys without scales inside a vector");
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ExpandKeys<S, F, I>(PageLayout layout, int* page, int tokens, float* scales, float* part, int stride)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        switch (layout.KeyFormat)
        {
            case PageFormat.Q8:
                PageExpand<S, F, I>.KeysQ8(page, layout.PageTokens, layout.KeyWords, tokens, scales, stride, part, stride);
                break;
            case PageFormat.Q4:
                PageExpand<S, F, I>.KeysQ4(page, layout.PageTokens, layout.KeyWords, tokens, scales, stride, part, stride);
                break;
            case PageFormat.T4:
                PageExpand<S, F, I>.Keys<KeysT4>(page, layout.PageTokens, layout.KeyWords, tokens, part, stride);
                break;
            case PageFormat.T3:
                PageExpand<S, F, I>.Keys<KeysT3>(page, layout.PageTokens, layout.KeyWords, tokens, part, stride);
                break;
            default:
                PageExpand<S, F, I>.Keys<KeysT2>(page, layout.PageTokens, layout.KeyWords, tokens, part, stride);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ExpandValues<S, F, I>(PageLayout layout, int* page, int width, int tokens, float* scales, int scaleStride, float* vectors, int stride)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        var values = (byte*)(page + layout.ValueOffset);
        int vectorBytes = layout.ValueWords * sizeof(int);
        switch (layout.ValueFormat)
        {
            case PageFormat.Q8:
                PageExpand<S, F, I>.ValuesQ8(values, vectorBytes, width, tokens, scales, scaleStride, vectors, stride);
                break;
            case PageFormat.Q4:
                PageExpand<S, F, I>.ValuesQ4(values, vectorBytes, width, tokens, scales, scaleStride, vectors, stride);
                break;
            case PageFormat.V4:
                PageExpand<S, F, I>.ValuesV4(values, vectorBytes, width, tokens, PageFormat.V4.ScaleGroup(width), scales, scaleStride, vectors, stride);
                break;
            case PageFormat.V3:
                PageExpand<S, F, I>.Values<ValuesV3>(values, vectorBytes, width, tokens, vectors, stride);
                break;
            default:
                PageExpand<S, F, I>.Values<ValuesV2>(values, vectorBytes, width, tokens, vectors, stride);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate<S, F, I>(
        PageFormat format,
        byte* values,
        int vectorBytes,
        byte* ahead,
        float* weights,
        int stride,
        int tokens,
        float* output,
        int outputStride,
        int from,
        int to,
        float* keep,
        float* bias,
        int rows)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        switch (format)
        {
            case PageFormat.F32:
                PageOutput<S, F, I>.Accumulate<Whole<SimdF32>>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.F16:
                PageOutput<S, F, I>.Accumulate<Whole<SimdF16>>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.BF16:
                PageOutput<S, F, I>.Accumulate<Whole<SimdBF16>>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.I8 or PageFormat.Q8:
                PageOutput<S, F, I>.Accumulate<Whole<SimdI8>>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.FP8:
                PageOutput<S, F, I>.Accumulate<Whole<SimdFP8>>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.Q4:
                PageOutput<S, F, I>.Accumulate<ValuesQ4>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.V4:
                PageOutput<S, F, I>.Accumulate<ValuesV4>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.V3:
                PageOutput<S, F, I>.Accumulate<ValuesV3>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            case PageFormat.V2:
                PageOutput<S, F, I>.Accumulate<ValuesV2>(values, vectorBytes, ahead, weights, stride, tokens, output, outputStride, from, to, keep, bias, rows);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(format), format, "expected a format of values");
        }
    }
}
