namespace KvCacheGpu.TestKit;

/// <summary>Keys per channel over 32 tokens, asymmetric, with a binary16 scale and minimum: one bit an element above the codes'.</summary>
/// <remarks>Source: KIVI (Liu et al. 2024); no residual in full precision, as for every other format here.</remarks>
public static class KiviBaseline
{
    private const int Group = 32;

    /// <summary>Keys as they are read back.</summary>
    public static double[][] Apply(float[][] keys, int bits)
    {
        double[][] result = [.. keys.Select(key => new double[key.Length])];
        for (int first = 0; first < keys.Length; first += Group)
        {
            for (int e = 0; e < keys[0].Length; e++)
            {
                double[] channel = [.. Enumerable.Range(first, Group).Select(t => (double)keys[t][e])];
                double[] quantized = Quantize(channel, (1 << bits) - 1);
                for (int i = 0; i < Group; i++)
                {
                    result[first + i][e] = quantized[i];
                }
            }
        }

        return result;
    }

    private static double[] Quantize(double[] x, int steps)
    {
        double minimum = (double)(Half)x.Min();
        double step = (double)(Half)((x.Max() - x.Min()) / steps);
        return [.. x.Select(e => minimum + (step * Math.Clamp(Math.Round((e - minimum) / step), 0, steps)))];
    }
}
