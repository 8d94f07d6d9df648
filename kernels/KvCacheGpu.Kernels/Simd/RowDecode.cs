using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Rows of words to rows of floats, in the basis in which they lie; padded with zeros to the stride.</summary>
internal static unsafe class RowDecode<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Decodes rows.</summary>
    /// <param name="part">Format and scales.</param>
    /// <param name="words">Word rows, <paramref name="wordStride"/> apart.</param>
    /// <param name="wordStride">Words from row to row.</param>
    /// <param name="token">The first row's token in the page.</param>
    /// <param name="tokens">Rows.</param>
    /// <param name="rows">Out: f32[tokens][stride].</param>
    /// <param name="stride">Floats from row to row.</param>
    /// <param name="codes">Room for a vector's codes.</param>
    public static void Rows(in PagePart part, int* words, int wordStride, int token, int tokens, float* rows, int stride, byte* codes)
    {
        for (int t = 0; t < tokens; t++, words += wordStride, rows += stride)
        {
            switch (part.Format)
            {
                case PageFormat.F32:
                    Widen<SimdF32>(words, part.Width, 1f, rows);
                    break;
                case PageFormat.F16:
                    Widen<SimdF16Kept>(words, part.Width, SimdF16.Factor, rows);
                    break;
                case PageFormat.BF16:
                    Widen<SimdBF16>(words, part.Width, 1f, rows);
                    break;
                case PageFormat.I8:
                    Widen<SimdI8>(words, part.Width, part.Scale(0, token + t), rows);
                    break;
                default:
                    PackCodes.Unpack(part.Format, words, part.Width, codes);
                    Levelled(part, codes, token + t, rows);
                    break;
            }

            new Span<float>(rows + part.Width, stride - part.Width).Clear();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Widen<TCodec>(int* words, int width, float factor, float* row)
        where TCodec : struct, ISimdCodec
    {
        F all = S.All(factor);
        for (int i = 0; i < width; i += S.Lanes)
        {
            S.Store(row + i, S.Multiply(TCodec.Elements<S, F, I>(words, i), all));
        }
    }

    private static void Levelled(in PagePart part, byte* codes, int token, float* row)
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
                    row[i] = (PagePart.Single(part.Mean[i]) + e) * r;
                }

                break;
            case PageFormat.V3 or PageFormat.V2:
                float rms = part.Scale(0, token);
                for (int i = 0; i < width; i++)
                {
                    row[i] = levels[codes[i]] * rms;
                }

                break;
            case PageFormat.V4:
                for (int i = 0; i < width; i++)
                {
                    row[i] = (part.Scale(2 * (i / group), token) * codes[i]) + part.Scale((2 * (i / group)) + 1, token);
                }

                break;
            case PageFormat.FP8:
                for (int i = 0; i < width; i++)
                {
                    row[i] = BitConverter.UInt32BitsToSingle(Bits8.SingleBitsFromFp8(codes[i]));
                }

                break;
            case PageFormat.Q8:
                for (int i = 0; i < width; i++)
                {
                    row[i] = (sbyte)codes[i] * part.Scale(i / group, token);
                }

                break;
            default:
                for (int i = 0; i < width; i++)
                {
                    row[i] = (codes[i] - 8) * part.Scale(i / group, token);
                }

                break;
        }
    }
}
