namespace KvCacheGpu.TestKit;

/// <summary>Hadamard rotation, Lloyd-Max levels in 4 bits and one binary16 norm a vector: 4.125 bits an element.</summary>
/// <remarks>As TurboQuant (Zandieh et al. 2025) does for keys.</remarks>
public static class LloydMax4Baseline
{
    private static readonly double[] Levels = LloydMax.Solve(4).Levels;

    /// <summary>Keys as they are read back.</summary>
    public static double[][] Apply(float[][] keys) => RotatedKeys.Through(keys, Quantize);

    private static double[] Quantize(double[] x)
    {
        double size = (double)(Half)Math.Sqrt(x.Sum(e => e * e)) / Math.Sqrt(x.Length);
        return [.. x.Select(e => size * Levels.MinBy(level => Math.Abs(level - (e / size))))];
    }
}
