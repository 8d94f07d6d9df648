using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The rotation as others use it before they quantize, in double.</summary>
internal static class RotatedKeys
{
    /// <summary>Rotates, quantizes, rotates back.</summary>
    public static double[][] Through(float[][] keys, Func<double[], double[]> quantize)
    {
        float[] signs = Rotation.Signs(keys[0].Length, AttentionCase.RotationSeed);
        return [.. keys.Select(key => HadamardMatrix.Undo(quantize(HadamardMatrix.Apply([.. key.Select(x => (double)x)], signs)), signs))];
    }
}
