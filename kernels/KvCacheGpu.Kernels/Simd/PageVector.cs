namespace KvCacheGpu.Kernels;

/// <summary>One vector of a page, element by element: the plain way in and out, for what is not a hot loop.</summary>
internal static unsafe class PageVector
{
    /// <summary>Writes a vector in full precision. Word w goes to <c>words[w * step]</c>.</summary>
    public static void Write(PageFormat format, float* elements, int width, int* words, int step)
    {
        var bits = (uint*)elements;
        switch (format)
        {
            case PageFormat.F32:
                for (int i = 0; i < width; i++)
                {
                    words[i * step] = (int)bits[i];
                }

                break;
            case PageFormat.F16:
                for (int w = 0; w < width / 2; w++)
                {
                    words[w * step] = (int)(Bits16.HalfFromSingleBits(bits[2 * w]) | (Bits16.HalfFromSingleBits(bits[(2 * w) + 1]) << 16));
                }

                break;
            default:
                for (int w = 0; w < width / 2; w++)
                {
                    words[w * step] = (int)(Bits16.BFloat16FromSingleBits(bits[2 * w]) | (Bits16.BFloat16FromSingleBits(bits[(2 * w) + 1]) << 16));
                }

                break;
        }
    }

    /// <summary>Brings what decoding put a rounding error beyond the format's largest number back to it.</summary>
    public static void Saturate(PageFormat format, float* elements, int width)
    {
        float largest = BitConverter.UInt32BitsToSingle(format switch
        {
            PageFormat.F16 => 0x477FE000u,
            PageFormat.BF16 => 0x7F7F0000u,
            _ => 0x7F7FFFFFu,
        });
        for (int i = 0; i < width; i++)
        {
            elements[i] = Math.Clamp(elements[i], -largest, largest);
        }
    }

    /// <summary>Reads a vector as it lies, scale included, rotated where the format is. Word w is at <c>words[w * step]</c>.</summary>
    public static void Read(PageFormat format, int* words, int step, int width, float scale, float* elements)
    {
        switch (format)
        {
            case PageFormat.F32:
                for (int i = 0; i < width; i++)
                {
                    elements[i] = BitConverter.Int32BitsToSingle(words[i * step]);
                }

                break;
            case PageFormat.F16:
                for (int i = 0; i < width; i++)
                {
                    elements[i] = BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromHalf(Half(words[i / 2 * step], i)));
                }

                break;
            case PageFormat.BF16:
                for (int i = 0; i < width; i++)
                {
                    elements[i] = BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromBFloat16(Half(words[i / 2 * step], i)));
                }

                break;
            default:
                for (int i = 0; i < width; i++)
                {
                    elements[i] = scale * (words[i / 4 * step] << (24 - (8 * (i & 3))) >> 24);
                }

                break;
        }
    }

    /// <summary>Reads token <paramref name="token"/>'s key in the plain basis.</summary>
    public static void ReadKey(PageLayout layout, int* page, int token, int width, float* signs, float* elements)
    {
        float scale = Scale(layout.KeyFormat, page + layout.KeyScaleOffset, token);
        Read(layout.KeyFormat, page + token, layout.PageTokens, width, scale, elements);
        if (layout.KeyFormat.IsRotated())
        {
            Rotation.Undo(new Span<float>(elements, width), new ReadOnlySpan<float>(signs, width));
        }
    }

    /// <summary>Reads token <paramref name="token"/>'s value in the plain basis.</summary>
    public static void ReadValue(PageLayout layout, int* page, int token, int width, float* signs, float* elements)
    {
        float scale = Scale(layout.ValueFormat, page + layout.ValueScaleOffset, token);
        Read(layout.ValueFormat, page + layout.ValueOffset + (token * layout.ValueWords), 1, width, scale, elements);
        if (layout.ValueFormat.IsRotated())
        {
            Rotation.Undo(new Span<float>(elements, width), new ReadOnlySpan<float>(signs, width));
        }
    }

    private static float Scale(PageFormat format, int* words, int token) => format.ScalePlanes(32) == 0
        ? 1f
        : BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromHalf(((ushort*)words)[token]));

    private static uint Half(int word, int element) => (element & 1) == 0 ? (uint)word & 0xFFFF : (uint)word >> 16;
}
