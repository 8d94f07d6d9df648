using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Which of a page's bytes are of its first tokens, in any layout: as <see cref="PageLayout"/> draws it, each token has words and scales of its own.</summary>
internal static class PageTokens
{
    private const uint HalfInfinity = 0x7C00;

    /// <summary>Zeroes what is not the page's: what tokens left behind that it no longer holds, as rolled-back ones, and the padding.</summary>
    /// <param name="layout">The page's layout.</param>
    /// <param name="tokens">Tokens that it holds.</param>
    /// <param name="isOpen">True if the page is open: its mean and deviation were not written yet.</param>
    /// <param name="words">The page.</param>
    public static void ClearBeyond(PageLayout layout, int tokens, bool isOpen, Span<int> words)
    {
        for (int word = 0; word < layout.KeyWords; word++)
        {
            words.Slice(word * layout.PageTokens, layout.PageTokens)[tokens..].Clear();
        }

        words[(layout.ValueOffset + (tokens * layout.ValueWords))..layout.KeyScaleOffset].Clear();
        Span<ushort> scales = MemoryMarshal.Cast<int, ushort>(words[layout.KeyScaleOffset..layout.DigestOffset]);
        for (int plane = 0; plane < layout.KeyScalePlanes + layout.ValueScalePlanes; plane++)
        {
            scales.Slice(plane * layout.ScaleStride, layout.ScaleStride)[tokens..].Clear();
        }

        // Behind it a slot may hold what its page before did.
        words[(layout.DigestOffset + (isOpen || !layout.HasDigest ? 0 : layout.DigestStride))..].Clear();
    }

    /// <summary>True if a part of a page holds numbers that its reader takes: none is a NaN, an infinity, or beyond a limit.</summary>
    /// <param name="layout">The page's layout.</param>
    /// <param name="isValue">True for its values, false for its keys.</param>
    /// <param name="tokens">Tokens that it holds.</param>
    /// <param name="refusedFrom">The smallest magnitude that is refused, as binary32 bits. Lossy formats are held to numbers alone: they lie below it.</param>
    /// <param name="words">The page.</param>
    public static bool AreTaken(PageLayout layout, bool isValue, int tokens, uint refusedFrom, ReadOnlySpan<int> words)
    {
        PageFormat format = isValue ? layout.ValueFormat : layout.KeyFormat;
        (uint mask, uint sign) = format switch
        {
            PageFormat.F32 => (0x7FFFFFFFu, 0x80000000u),
            PageFormat.F16 or PageFormat.BF16 => (0x7FFF7FFFu, 0x80008000u),
            PageFormat.FP8 => (0x7F7F7F7Fu, 0x80808080u),
            _ => (0u, 0u),
        };

        // Added to a magnitude at the limit, it carries over into the sign's place.
        uint add = format switch
        {
            PageFormat.F32 => 0x80000000u - refusedFrom,
            PageFormat.F16 => 0x00010001u * (0x8000u - HalfInfinity),
            PageFormat.BF16 => 0x00010001u * (0x8000u - ((refusedFrom + 0xFFFF) >> 16)),
            _ => 0x01010101u,
        };
        uint over = 0;
        ReadOnlySpan<int> values = words.Slice(layout.ValueOffset, tokens * layout.ValueWords);
        for (int word = 0; word < (isValue ? 1 : layout.KeyWords); word++)
        {
            foreach (int bits in isValue ? values : words.Slice(word * layout.PageTokens, tokens))
            {
                over |= ((uint)bits & mask) + add;
            }
        }

        ReadOnlySpan<ushort> scales = MemoryMarshal.Cast<int, ushort>(words[(isValue ? layout.ValueScaleOffset : layout.KeyScaleOffset)..]);
        bool areNumbers = (over & sign) == 0;
        for (int plane = 0; plane < (isValue ? layout.ValueScalePlanes : layout.KeyScalePlanes); plane++)
        {
            areNumbers &= AreNumbers(scales.Slice(plane * layout.ScaleStride, tokens));
        }

        // Centered keys are decoded with their page's mean.
        return areNumbers && (isValue || !format.IsCentered() || AreNumbers(MemoryMarshal.Cast<int, ushort>(words[layout.DigestOffset..])[..layout.DigestStride]));
    }

    private static bool AreNumbers(ReadOnlySpan<ushort> halves)
    {
        foreach (ushort half in halves)
        {
            if ((half & 0x7FFF) >= HalfInfinity)
            {
                return false;
            }
        }

        return true;
    }
}
