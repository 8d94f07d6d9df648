namespace KvCacheGpu.TestKit;

/// <summary>The same elements in the forms of hosts' tensors.</summary>
public static class Strided
{
    /// <summary>Dense vectors spread to strides, NaN in the gaps: a kernel that reads one is refused or poisoned.</summary>
    public static float[] Spread(float[] dense, int heads, int width, int tokenStride, int headStride)
    {
        int tokens = dense.Length / (heads * width);
        var spread = new float[((tokens - 1) * tokenStride) + ((heads - 1) * headStride) + width];
        Array.Fill(spread, float.NaN);
        for (int vector = 0; vector < tokens * heads; vector++)
        {
            int at = (vector / heads * tokenStride) + (vector % heads * headStride);
            dense.AsSpan(vector * width, width).CopyTo(spread.AsSpan(at));
        }

        return spread;
    }

    public static Half[] Halves(float[] dense) => [.. dense.Select(x => (Half)x)];

    /// <summary>The upper halves of singles that bfloat16 holds exactly.</summary>
    public static ushort[] BFloat16s(float[] dense) => [.. dense.Select(x => (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16))];
}
