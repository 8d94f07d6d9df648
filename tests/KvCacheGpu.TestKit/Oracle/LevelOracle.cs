using System.Numerics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>T, V3 and V2 of rotated vectors in binary32, statement by statement as <see cref="Levels"/> draws them.</summary>
internal static class LevelOracle
{
    /// <summary>Bits of a code.</summary>
    public static int Bits(PageFormat format) => format.BitsPerElement();

    /// <summary>V3, V2: codes and r of one vector.</summary>
    public static (uint[] Codes, Half[] Scales) Value(PageFormat format, float[] y)
    {
        (Half r, _) = Normalize(y);
        float factor = r > Half.Zero ? Levels.Unit(Bits(format)) / (float)r : 0;
        return (Codes(format, [.. y.Select(x => x * factor)]), [r]);
    }

    /// <summary>T: a page's codes, r and g, mu, and the deviation of the vectors whose mean is mu.</summary>
    public static PartCodes Keys(PageFormat format, float[][] y)
    {
        (Half R, float[] U)[] normal = [.. y.Select(Normalize)];
        float[][] u = [.. normal.Select(n => n.U)];
        (Half[] mean, Half[] deviation) = Digest(u);
        (uint[][] codes, Half[][] scales) = (new uint[y.Length][], new Half[y.Length][]);
        for (int t = 0; t < y.Length; t++)
        {
            float[] e = [.. u[t].Zip(mean, (x, mu) => x - (float)mu)];
            float square = SquareSum(e);
            float norm = MathF.Sqrt(square);
            float factor = square > 0 ? MathF.Sqrt(e.Length) * Levels.Unit(Bits(format)) / norm : 0;
            codes[t] = Codes(format, [.. e.Select(x => x * factor)]);
            float[] levels = [.. codes[t].Select(code => Levels.Of(Bits(format))[(int)code])];
            scales[t] = [normal[t].R, square > 0 ? (Half)(norm / MathF.Sqrt(SquareSum(levels))) : Half.Zero];
        }

        return new PartCodes(format, codes, scales, mean, deviation);
    }

    /// <summary>Mean and deviation over tokens, each a binary16 brought back to +-65504.</summary>
    public static (Half[] Mean, Half[] Deviation) Digest(float[][] vectors)
    {
        int width = vectors[0].Length;
        (var mean, var deviation) = (new Half[width], new Half[width]);
        for (int e = 0; e < width; e++)
        {
            float sum = 0;
            foreach (float[] vector in vectors)
            {
                sum += vector[e];
            }

            mean[e] = Round16.Saturated(sum / vectors.Length);
            float squares = 0;
            foreach (float[] vector in vectors)
            {
                float distance = vector[e] - (float)mean[e];
                float square = distance * distance;
                squares += square;
            }

            deviation[e] = Round16.Saturated(MathF.Sqrt(squares / vectors.Length));
        }

        return (mean, deviation);
    }

    private static (Half R, float[] U) Normalize(float[] y)
    {
        var r = (Half)MathF.Sqrt(SquareSum(y) / y.Length);
        float inverse = r > Half.Zero ? 1f / (float)r : 0;
        return (r, [.. y.Select(x => x * inverse)]);
    }

    private static uint[] Codes(PageFormat format, float[] z)
    {
        float[] levels = Levels.Of(Bits(format)).ToArray();
        float[] positive = levels[(levels.Length / 2)..];
        return [.. z.Select(Code)];

        // The nearest level; of two as near the lower one, which is the larger magnitude below zero.
        uint Code(float x)
        {
            if (!(x > 0))
            {
                return (uint)positive.Zip(positive.Skip(1)).Count(two => -x >= (two.First + two.Second) / 2);
            }

            return (uint)(positive.Length + positive.Zip(positive.Skip(1)).Count(two => x > (two.First + two.Second) / 2));
        }
    }

    // Halves of halves: elements that are equal modulo step, from the padded vector's last split to its first.
    private static float SquareSum(float[] x)
    {
        int padded = (int)BitOperations.RoundUpToPowerOf2((uint)x.Length);
        return Sum(0, 1);

        float Sum(int first, int step)
        {
            if (step == padded)
            {
                return first < x.Length ? x[first] * x[first] : 0;
            }

            float lower = Sum(first, 2 * step);
            return lower + Sum(first + step, 2 * step);
        }
    }
}
