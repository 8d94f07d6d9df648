using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Tokens written into the words of a full-precision page on the host, as a step's append writes them on the device.</summary>
internal static class OpenWords
{
    /// <summary>Writes tokens over what a page holds at their place, and leaves all others as they are.</summary>
    /// <param name="layout">The page's layout: a full-precision pair.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="token">Place of the token in the page.</param>
    /// <param name="key">Its key, <c>[key width]</c>.</param>
    /// <param name="value">Its value, <c>[value width]</c>.</param>
    /// <param name="words">The page.</param>
    public static void Overwrite(PageLayout layout, KvGeometry geometry, int token, ReadOnlySpan<float> key, ReadOnlySpan<float> value, Span<int> words)
    {
        for (int word = 0; word < layout.KeyWords; word++)
        {
            words[(word * geometry.PageTokens) + token] = 0;
        }

        Span<int> values = words[(layout.ValueOffset + (token * layout.ValueWords))..];
        values[..layout.ValueWords].Clear();
        Pack(layout.KeyFormat, key, geometry.KeyWidth, geometry.PageTokens, 1, 1, words[token..]);
        Pack(layout.ValueFormat, value, geometry.ValueWidth, 1, layout.ValueWords, 1, values);
    }

    /// <summary>Writes vectors into cleared words, as <see cref="PageLayout"/> draws them: keys word by word over all tokens, values token by token.</summary>
    public static void Pack(PageFormat format, ReadOnlySpan<float> elements, int width, int wordStride, int tokenStride, int tokens, Span<int> words)
    {
        for (int token = 0; token < tokens; token++)
        {
            ReadOnlySpan<uint> vector = MemoryMarshal.Cast<float, uint>(elements.Slice(token * width, width));
            for (int e = 0; e < width; e++)
            {
                if (format == PageFormat.F32)
                {
                    words[(e * wordStride) + (token * tokenStride)] = (int)vector[e];
                    continue;
                }

                uint half = format == PageFormat.F16 ? Bits16.HalfFromSingleBits(vector[e]) : Bits16.BFloat16FromSingleBits(vector[e]);
                words[(e / 2 * wordStride) + (token * tokenStride)] |= (int)(half << (16 * (e % 2)));
            }
        }
    }
}
