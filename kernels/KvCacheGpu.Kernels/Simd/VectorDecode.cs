using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Vectors of words to vectors of floats, in the basis in which they lie; padded with zeros to the stride.</summary>
internal static unsafe class VectorDecode<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Decodes vectors.</summary>
    /// <param name="part">Format and scales.</param>
    /// <param name="words">Word vectors, <paramref name="wordStride"/> apart.</param>
    /// <param name="wordStride">Words from vector to vector.</param>
    /// <param name="token">The first vector's token in the page.</param>
    /// <param name="tokens">Vectors.</param>
    /// <param name="vectors">Out: f32[tokens][stride].</param>
    /// <param name="stride">Floats from vector to vector.</param>
    /// <param name="codes">Room for a vector's codes.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Vectors(in PagePart part, int* words, int wordStride, int token, int tokens, float* vectors, int stride, byte* codes)
    {
        for (int t = 0; t < tokens; t++, words += wordStride, vectors += stride)
        {
            switch (part.Format)
            {
                case PageFormat.F32:
                    Widen<SimdF32>(words, part.Width, 1f, vectors);
                    break;
                case PageFormat.F16:
                    Widen<SimdF16Kept>(words, part.Width, SimdF16.Factor, vectors);
                    break;
                case PageFormat.BF16:
                    Widen<SimdBF16>(words, part.Width, 1f, vectors);
                    break;
                case PageFormat.I8:
                    Widen<SimdI8>(words, part.Width, part.Scale(0, token + t), vectors);
                    break;
                default:
                    PackCodes.Unpack(part.Format, words, part.Width, codes);
                    Levelled(part, codes, token + t, vectors);
                    break;
            }

            new Span<float>(vectors + part.Width, stride - part.Width).Clear();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Widen<TCodec>(int* words, int width, float factor, float* vector)
        where TCodec : struct, ISimdCodec
    {
        F all = S.All(factor);
        for (int i = 0; i < width; i += S.Lanes)
        {
            S.Store(vector + i, S.Multiply(TCodec.Elements<S, F, I>(words, i), all));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Levelled(in PagePart part, byte* codes, int token, float* vector)
    {
        int width = part.Width;
        int group = part.Format.ScaleGroup(width);
        ReadOnlySpan<float> levels = part.Format is >= PageFormat.T4 and <= PageFormat.V2 and not PageFormat.V4
            ? Levels.Of(part.Format.BitsPerElement())
            : default;
        switch (part.Format)
        {
            case PageFormat.T4 or PageFormat.T3 or PageFormat.T2:
                (float r, float g) = (part.Scale(0, token), part.Scale(1, token));
                for (int i = 0; i < width; i++)
                {
                    float e = g * levels[codes[i]];
                    vector[i] = (PagePart.Single(part.Mean[i]) + e) * r;
                }

                break;
            case PageFormat.V3 or PageFormat.V2:
                float step = part.Scale(0, token) * Levels.Step(part.Format.BitsPerElement());
                for (int i = 0; i < width; i++)
                {
                    vector[i] = levels[codes[i]] * step;
                }

                break;
            case PageFormat.V4:
                for (int i = 0; i < width; i++)
                {
                    vector[i] = (part.Scale(2 * (i / group), token) * codes[i]) + part.Scale((2 * (i / group)) + 1, token);
                }

                break;
            case PageFormat.FP8:
                for (int i = 0; i < width; i++)
                {
                    vector[i] = BitConverter.UInt32BitsToSingle(Bits8.SingleBitsFromFp8(codes[i]));
                }

                break;
            case PageFormat.Q8:
                for (int i = 0; i < width; i++)
                {
                    vector[i] = (sbyte)codes[i] * part.Scale(i / group, token);
                }

                break;
            default:
                for (int i = 0; i < width; i++)
                {
                    vector[i] = (codes[i] - 8) * part.Scale(i / group, token);
                }

                break;
        }
    }
}
