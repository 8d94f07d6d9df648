using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The rotation that other systems apply before they quantize, in double.</summary>
internal static class RotatedKeys
{
    /// <summary>Rotates keys, quantizes them, and rotates them back.</summary>
    public static double[][] Through(float[][] keys, Func<double[], double[]> quantize)
    {
        float[] signs = Rotation.Signs(keys[0].Length, AttentionCase.RotationSeed);
        return [.. keys.Select(key => HadamardMatrix.Undo(quantize(HadamardMatrix.Apply([.. key.Select(x => (double)x)], signs)), signs))];
    }
}
