namespace KvCacheGpu.TestKit;

/// <summary>ggml's blocks of 32, as its reference quantizers compute them in binary32.</summary>
/// <remarks>Source: ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q4_0_ref.</remarks>
public static class GgmlOracle
{
    /// <summary>Elements of a block.</summary>
    public const int Block = 32;

    /// <summary>q8_0: bytes and d by block.</summary>
    public static (uint[] Codes, Half[] Scales) Q8(ReadOnlySpan<float> x)
    {
        (var codes, var scales) = (new uint[x.Length], new Half[x.Length / Block]);
        for (int block = 0; block < scales.Length; block++)
        {
            float largest = 0;
            foreach (float e in x.Slice(block * Block, Block))
            {
                largest = MathF.Max(largest, MathF.Abs(e));
            }

            float d = largest / 127f;
            float inverse = d == 0 ? 0 : 1f / d;
            scales[block] = (Half)d;
            for (int i = block * Block; i < (block + 1) * Block; i++)
            {
                codes[i] = (byte)(sbyte)Math.Clamp(MathF.Round(x[i] * inverse, MidpointRounding.AwayFromZero), -127f, 127f);
            }
        }

        return (codes, scales);
    }

    /// <summary>q4_0: nibbles and d by block.</summary>
    public static (uint[] Codes, Half[] Scales) Q4(ReadOnlySpan<float> x)
    {
        (var codes, var scales) = (new uint[x.Length], new Half[x.Length / Block]);
        for (int block = 0; block < scales.Length; block++)
        {
            float extreme = 0;
            foreach (float e in x.Slice(block * Block, Block))
            {
                extreme = MathF.Abs(e) > MathF.Abs(extreme) ? e : extreme;
            }

            float d = extreme / -8f;
            float inverse = d == 0 ? 0 : 1f / d;
            scales[block] = (Half)d;
            for (int i = block * Block; i < (block + 1) * Block; i++)
            {
                float scaled = x[i] * inverse;
                codes[i] = (uint)Math.Clamp((int)MathF.Truncate(scaled + 8.5f), 0, 15);
            }
        }

        return (codes, scales);
    }
}
