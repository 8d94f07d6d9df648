namespace KvCacheGpu.TestKit;

/// <summary>q4_0 after a Hadamard rotation: 4.5 bits an element.</summary>
/// <remarks>As llama.cpp's rotated cache does.</remarks>
public static class RotatedQ4Baseline
{
    private const int Block = 32;

    /// <summary>Keys as they are read back.</summary>
    public static double[][] Apply(float[][] keys) => RotatedKeys.Through(keys, x => [.. x.Chunk(Block).SelectMany(Quantize)]);

    private static IEnumerable<double> Quantize(double[] x)
    {
        double d = x.MaxBy(Math.Abs) / -8;
        double stored = (double)(Half)d;
        return x.Select(e => stored * (Math.Clamp(Math.Floor((e / d) + 8.5), 0, 15) - 8));
    }
}
