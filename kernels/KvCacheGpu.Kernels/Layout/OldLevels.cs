using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Pages of version 1 of <see cref="Levels"/>, which become pages of today's version. They held the Lloyd-Max levels themselves, their codes
/// counted levels from the lowest up, and bit e of T3's and V3's third word was the third bit of element e of 32.
/// </summary>
/// <remarks>
/// A code stays the code of its level. V3 and V2 keep r; a T format's gain becomes the one that brings the new levels c' nearest to g c:
/// g' = f16(g (c . c') / (c' . c')). A decoded number then differs from what version 1 decoded to as levels do: by 2.4 % of its level at most
/// in T4 (.0062 of a standard deviation), .2 % in T3 and V3, .06 % in T2 and V2; a gain's rounding adds 2^-11 of the level.
/// </remarks>
internal static class OldLevels
{
    /// <summary>The version of the tables that are converted.</summary>
    public const int Version = 1;

    private static readonly float[] Two = [0.452780035f, 1.51041761f];

    private static readonly float[] Three = [0.245094179f, 0.756005281f, 1.34390928f, 2.1519457f];

    private static readonly float[] Four = [0.12839503f, 0.388048299f, 0.656759119f, 0.942340456f, 1.2562312f, 1.61804639f, 2.06901723f, 2.73258957f];

    /// <summary>True if pages of a layout hold codes of levels: T formats, V3 and V2.</summary>
    public static bool AreIn(PageLayout layout) => HasLevels(layout.KeyFormat) || HasLevels(layout.ValueFormat);

    /// <summary>Converts a page in place: all of its tokens, used or not.</summary>
    /// <param name="layout">The page's layout.</param>
    /// <param name="geometry">The shape that it was made for.</param>
    /// <param name="page">Its words.</param>
    public static void Convert(PageLayout layout, KvGeometry geometry, Span<int> page)
    {
        if (HasLevels(layout.KeyFormat))
        {
            Span<Half> gains = MemoryMarshal.Cast<int, Half>(page[layout.KeyScaleOffset..]).Slice(layout.ScaleStride, layout.PageTokens);
            for (int token = 0; token < layout.PageTokens; token++)
            {
                Span<int> key = page[token..layout.ValueOffset];
                Reorder(layout.KeyFormat.BitsPerElement(), geometry.KeyWidth, key, layout.PageTokens);
                gains[token] = (Half)((double)gains[token] * Nearest(layout.KeyFormat.BitsPerElement(), geometry.KeyWidth, key, layout.PageTokens));
            }
        }

        for (int token = 0; HasLevels(layout.ValueFormat) && token < layout.PageTokens; token++)
        {
            Span<int> value = page.Slice(layout.ValueOffset + (token * layout.ValueWords), layout.ValueWords);
            Reorder(layout.ValueFormat.BitsPerElement(), geometry.ValueWidth, value, 1);
        }
    }

    private static bool HasLevels(PageFormat format) => format is PageFormat.T4 or PageFormat.T3 or PageFormat.T2 or PageFormat.V3 or PageFormat.V2;

    // Codes of one vector, whose words lie a stride apart. Bits behind its last element stay zeros.
    private static void Reorder(int bits, int width, Span<int> words, int stride)
    {
        for (int e = 0; bits == 4 && e < width; e += 8)
        {
            ref int word = ref words[e / 8 * stride];
            uint negative = ~(uint)word & 0x88888888;
            word ^= (int)(negative - (negative >> 3));
        }

        for (int e = 0; bits == 2 && e < width; e += 16)
        {
            ref int word = ref words[e / 16 * stride];
            word ^= (int)((~(uint)word & 0xAAAAAAAA & Lowest(2 * (width - e))) >> 1);
        }

        for (int e = 0, first = 0; bits == 3 && e < width; e += 32, first += 3 * stride)
        {
            uint thirds = (uint)words[first + (2 * stride)];
            uint negative = ~thirds & Lowest(width - e);
            words[first] ^= (int)Doubled(negative & 0xFFFF);
            if (width - e > 16)
            {
                words[first + stride] ^= (int)Doubled(negative >> 16);
            }

            words[first + (2 * stride)] = (int)(InPairs(thirds & 0xFFFF) | (InPairs(thirds >> 16) << 2));
        }
    }

    // What a gain is multiplied by: (c . c') / (c' . c') of a vector's levels, old and new, whose signs agree.
    private static double Nearest(int bits, int width, ReadOnlySpan<int> words, int stride)
    {
        ReadOnlySpan<float> before = bits == 4 ? Four : bits == 3 ? Three : Two;
        ReadOnlySpan<float> after = Levels.Of(bits)[before.Length..];
        (int fieldBits, double both, double square) = (bits == 4 ? 4 : 2, 0, 0);
        for (int e = 0; e < width; e++)
        {
            // Of three bits the third is the sign: magnitudes are the pairs.
            int word = bits == 3 ? (e / 32 * 3) + (e % 32 / 16) : e * fieldBits / 32;
            int magnitude = (words[word * stride] >> (e * fieldBits % 32)) & (before.Length - 1);
            both += before[magnitude] * after[magnitude];
            square += after[magnitude] * after[magnitude];
        }

        return both / square;
    }

    private static uint Lowest(int bits) => bits >= 32 ? uint.MaxValue : (1u << bits) - 1;

    // Each of 16 bits twice.
    private static uint Doubled(uint bits)
    {
        uint pairs = InPairs(bits);
        uint apart = (pairs | (pairs << 1)) & 0x55555555;
        return apart | (apart << 1);
    }

    // 16 bits, two by two, in the lower halves of eight nibbles.
    private static uint InPairs(uint bits)
    {
        bits = (bits | (bits << 8)) & 0x00FF00FF;
        bits = (bits | (bits << 4)) & 0x0F0F0F0F;
        return (bits | (bits << 2)) & 0x33333333;
    }
}
