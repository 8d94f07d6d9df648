using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>What a page's sketch says of queries, in float64, from the page's keys.</summary>
public sealed class SketchOracle
{
    private readonly double[] _mean;
    private readonly double[] _scales;
    private readonly int[][] _signs;
    private readonly float[] _rotation;

    /// <summary>Sketches keys.</summary>
    /// <param name="keys">All of a page's keys, in the plain basis.</param>
    /// <param name="seed">The rotation's seed.</param>
    public SketchOracle(double[][] keys, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(keys);
        _rotation = Rotation.Signs(keys[0].Length, seed);
        double[][] rotated = [.. keys.Select(key => Rotate(key))];
        _mean = [.. Enumerable.Range(0, keys[0].Length).Select(e => (double)(Half)rotated.Average(key => key[e]))];
        double[][] apart = [.. rotated.Select(key => key.Zip(_mean, (x, mean) => x - mean).ToArray())];
        _signs = [.. apart.Select(key => key.Select(x => x < 0 ? -1 : 1).ToArray())];
        _scales = [.. apart.Select(key => (double)(Half)(key.Sum(x => x * x) / key.Sum(Math.Abs)))];
    }

    /// <summary>The largest product of a query with a key of the sketch.</summary>
    public double Score(IEnumerable<float[]> queries) => queries.Max(query =>
    {
        double[] q = Rotate([.. query.Select(x => (double)x)]);
        double center = q.Zip(_mean, (x, mean) => x * mean).Sum();
        return _signs.Zip(_scales, (signs, scale) => center + (scale * q.Zip(signs, (x, sign) => x * sign).Sum())).Max();
    });

    private double[] Rotate(double[] vector)
    {
        int block = Rotation.BlockSize(vector.Length);
        double[] turned = new double[vector.Length];
        for (int i = 0; i < vector.Length; i++)
        {
            for (int j = i / block * block; j < (i / block * block) + block; j++)
            {
                turned[i] += (int.PopCount(i & j & (block - 1)) % 2 == 0 ? 1 : -1) * _rotation[j] * vector[j] / Math.Sqrt(block);
            }
        }

        return turned;
    }
}
