using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Bytes of a page: random codes, finite numbers of a natural size, small positive scales.</summary>
internal static class RandomPage
{
    public static byte[] Create(PageLayout layout, Random random)
    {
        var bytes = new byte[layout.Bytes];
        random.NextBytes(bytes);
        Span<int> words = MemoryMarshal.Cast<byte, int>(bytes.AsSpan());
        Finite(layout.KeyFormat, words[..layout.ValueOffset], random);
        Finite(layout.ValueFormat, words[layout.ValueOffset..layout.KeyScaleOffset], random);
        Span<Half> scales = MemoryMarshal.Cast<int, Half>(words[layout.KeyScaleOffset..]);
        for (int i = 0; i < scales.Length; i++)
        {
            // Codes of eight bits are large, and logits should stay of the size of ten.
            double size = layout.KeyFormat is PageFormat.I8 or PageFormat.Q8 || layout.ValueFormat is PageFormat.I8 or PageFormat.Q8 ? 0.02 : 0.3;
            scales[i] = (Half)(size * (0.5 + random.NextDouble()));
        }

        return bytes;
    }

    private static void Finite(PageFormat format, Span<int> words, Random random)
    {
        if (format.IsFullPrecision())
        {
            for (int i = 0; i < words.Length; i++)
            {
                (float low, float high) = ((float)(random.NextDouble() - 0.5), (float)(random.NextDouble() - 0.5));
                words[i] = format switch
                {
                    PageFormat.F32 => BitConverter.SingleToInt32Bits(low),
                    PageFormat.F16 => BitConverter.HalfToUInt16Bits((Half)low) | (BitConverter.HalfToUInt16Bits((Half)high) << 16),
                    _ => (BitConverter.SingleToInt32Bits(low) >>> 16) | (BitConverter.SingleToInt32Bits(high) & unchecked((int)0xFFFF0000)),
                };
            }
        }
        else if (format == PageFormat.FP8)
        {
            // Below 2, either sign, subnormals included; seven ones would be no number.
            for (int i = 0; i < words.Length; i++)
            {
                words[i] &= unchecked((int)0xBFBFBFBF);
            }
        }
    }
}
