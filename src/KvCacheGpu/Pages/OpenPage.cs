using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The words of a page in full precision, written on the host as a step's append writes them on the device.</summary>
internal static class OpenPage
{
    private const float LargestHalf = 65504;

    /// <summary>Writes one token; the words of all other tokens stay as they are.</summary>
    /// <param name="layout">The page's layout, a pair in full precision: keys word by word over all tokens, values token by token.</param>
    /// <param name="token">The token's place in the page.</param>
    /// <param name="key">Its key, <c>[key width]</c>, in the plain basis.</param>
    /// <param name="value">Its value, <c>[value width]</c>.</param>
    /// <param name="words">The page.</param>
    /// <param name="wasDecoded">
    /// True if the numbers were decoded from a page: they may lie a rounding's width beyond the largest number that was taken in, and become that number.
    /// The default value is false.
    /// </param>
    public static void Put(PageLayout layout, int token, ReadOnlySpan<float> key, ReadOnlySpan<float> value, Span<int> words, bool wasDecoded = false)
    {
        Put(layout.KeyFormat, key, words[token..], layout.PageTokens, wasDecoded);
        Put(layout.ValueFormat, value, words[(layout.ValueOffset + (token * layout.ValueWords))..], 1, wasDecoded);
    }

    private static void Put(PageFormat format, ReadOnlySpan<float> vector, Span<int> words, int stride, bool wasDecoded)
    {
        if (format == PageFormat.F32)
        {
            for (int e = 0; e < vector.Length; e++)
            {
                words[e * stride] = BitConverter.SingleToInt32Bits(vector[e]);
            }

            return;
        }

        // Formats of 16 bits take even widths alone.
        for (int e = 0; e < vector.Length; e += 2)
        {
            words[e / 2 * stride] = (int)(Bits(format, vector[e], wasDecoded) | (Bits(format, vector[e + 1], wasDecoded) << 16));
        }
    }

    private static uint Bits(PageFormat format, float x, bool wasDecoded) => format == PageFormat.F16
        ? Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(wasDecoded ? Math.Clamp(x, -LargestHalf, LargestHalf) : x))
        : Bits16.BFloat16FromSingleBits(BitConverter.SingleToUInt32Bits(x));
}
