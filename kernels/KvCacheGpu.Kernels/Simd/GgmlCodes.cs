namespace KvCacheGpu.Kernels;

/// <summary>Quantizes one block of ggml's q8_0 or q4_0.</summary>
/// <remarks>Source: ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q4_0_ref.</remarks>
internal static class GgmlCodes
{
    /// <summary>Elements of a block.</summary>
    public const int Elements = 32;

    /// <summary>Writes a block's codes, a byte each, and returns its d as binary16 bits.</summary>
    public static ushort Encode(PageFormat format, ReadOnlySpan<float> x, Span<byte> codes)
    {
        // The largest by magnitude with its sign, which q4_0 keeps; the first of several counts.
        float largest = 0;
        foreach (float e in x)
        {
            largest = MathF.Abs(e) > MathF.Abs(largest) ? e : largest;
        }

        float d = format == PageFormat.Q8 ? MathF.Abs(largest) / 127f : largest / -8f;
        float inverse = d == 0 ? 0 : 1f / d;
        for (int i = 0; i < Elements; i++)
        {
            float scaled = x[i] * inverse;
            codes[i] = format == PageFormat.Q8
                ? (byte)(sbyte)Math.Clamp(MathF.Round(scaled, MidpointRounding.AwayFromZero), -127f, 127f)
                : (byte)Math.Clamp((int)(scaled + 8.5f), 0, 15);
        }

        return (ushort)Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(d));
    }
}
