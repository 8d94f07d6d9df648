using System.Numerics;

namespace KvCacheGpu.TestKit;

/// <summary>The rotation of stored vectors from its matrix entries, in double; shares no code with the kernels' butterflies.</summary>
public static class HadamardMatrix
{
    /// <summary>x = D H x': H[i][j] = (-1)^popcount(i and j) / sqrt(block) inside each block.</summary>
    public static double[] Undo(ReadOnlySpan<double> rotated, ReadOnlySpan<float> signs) => Multiply(rotated, signs, signsFirst: false);

    /// <summary>x' = H D x.</summary>
    public static double[] Apply(ReadOnlySpan<double> plain, ReadOnlySpan<float> signs) => Multiply(plain, signs, signsFirst: true);

    private static double[] Multiply(ReadOnlySpan<double> vector, ReadOnlySpan<float> signs, bool signsFirst)
    {
        int block = vector.Length & -vector.Length;
        double norm = 1 / Math.Sqrt(block);
        var result = new double[vector.Length];
        for (int i = 0; i < vector.Length; i++)
        {
            int start = i / block * block;
            double sum = 0;
            for (int j = 0; j < block; j++)
            {
                double x = signsFirst ? vector[start + j] * signs[start + j] : vector[start + j];
                sum += (BitOperations.PopCount((uint)((i - start) & j)) & 1) == 0 ? x : -x;
            }

            result[i] = sum * norm * (signsFirst ? 1 : signs[i]);
        }

        return result;
    }
}
