using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>An open page's words, written on the host.</summary>
internal static class OpenPage
{
    private const float LargestHalf = 65504;

    /// <summary>Packs vectors into the words of a page in full precision.</summary>
    /// <param name="layout">The page's layout.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="tokens">[page tokens] which vectors, in the page's order.</param>
    /// <param name="keys">[vectors][key width] in the plain basis.</param>
    /// <param name="values">[vectors][value width].</param>
    /// <param name="words">[words of the page] keys and values are written.</param>
    public static void Pack(
        PageLayout layout, KvGeometry geometry, ReadOnlySpan<int> tokens, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, Span<int> words)
    {
        for (int t = 0; t < tokens.Length; t++)
        {
            Put(layout.KeyFormat, keys.Slice(tokens[t] * geometry.KeyWidth, geometry.KeyWidth), words[t..], layout.PageTokens);
            Put(
                layout.ValueFormat, values.Slice(tokens[t] * geometry.ValueWidth, geometry.ValueWidth),
                words[(layout.ValueOffset + (t * layout.ValueWords))..], 1);
        }
    }

    private static void Put(PageFormat format, ReadOnlySpan<float> vector, Span<int> words, int stride)
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
            words[e / 2 * stride] = (int)(Bits(format, vector[e]) | (Bits(format, vector[e + 1]) << 16));
        }
    }

    // Decoded, a number may lie a rounding's width beyond what was taken in.
    private static uint Bits(PageFormat format, float x) => format == PageFormat.F16
        ? Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(Math.Clamp(x, -LargestHalf, LargestHalf)))
        : Bits16.BFloat16FromSingleBits(BitConverter.SingleToUInt32Bits(x));
}
