using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Finds an element's code among the words of its vector, by the drawing in <see cref="PageLayout"/>.</summary>
public static class CodeMap
{
    /// <summary>The code of an element; <paramref name="words"/> from the vector's first word on, <paramref name="stride"/> words apart.</summary>
    public static uint Read(PageFormat format, ReadOnlySpan<int> words, int stride, int element)
    {
        (int word, int shift) = Place(format, element);
        int bits = LowBits(format);
        uint code = ((uint)words[word * stride] >> shift) & Mask(bits);
        return format is PageFormat.T3 or PageFormat.V3
            ? code | ((((uint)words[HighWord(element) * stride] >> HighBit(element)) & 1) << 2)
            : code;
    }

    /// <summary>Writes the code of an element; the other bits of the word stay.</summary>
    public static void Write(PageFormat format, Span<int> words, int stride, int element, uint code)
    {
        (int word, int shift) = Place(format, element);
        Put(ref words[word * stride], shift, LowBits(format), code);
        if (format is PageFormat.T3 or PageFormat.V3)
        {
            Put(ref words[HighWord(element) * stride], HighBit(element), 1, code >> 2);
        }
    }

    private static int LowBits(PageFormat format) => format is PageFormat.T3 or PageFormat.V3 ? 2 : format.BitsPerElement();

    private static int HighWord(int e) => (e / 32 * 3) + 2;

    // Nibble f / 2 holds the third bits of elements f and f + 1 (f even) of the first 16, then those of the second.
    private static int HighBit(int e) => (e % 16 / 2 * 4) + (e % 32 / 16 * 2) + (e % 2);

    private static (int Word, int Shift) Place(PageFormat format, int e) => format switch
    {
        PageFormat.F32 => (e, 0),
        PageFormat.F16 or PageFormat.BF16 => (e / 2, e % 2 * 16),
        PageFormat.I8 or PageFormat.FP8 or PageFormat.Q8 => (e / 4, e % 4 * 8),
        PageFormat.T4 => (e / 8, e % 8 * 4),
        PageFormat.T2 or PageFormat.V2 => (e / 16, e % 16 * 2),
        PageFormat.T3 or PageFormat.V3 => ((e / 32 * 3) + (e % 32 / 16), e % 16 * 2),
        PageFormat.V4 => ((e / 16 * 2) + (e % 2), e % 16 / 2 * 4),
        PageFormat.Q4 => ((e / 32 * 4) + (e % 16 / 4), (e % 4 * 8) + (e % 32 < 16 ? 0 : 4)),
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };

    private static uint Mask(int bits) => uint.MaxValue >> (32 - bits);

    private static void Put(ref int word, int shift, int bits, uint code) =>
        word = (int)(((uint)word & ~(Mask(bits) << shift)) | ((code & Mask(bits)) << shift));
}
