using System.Numerics;

namespace KvCacheGpu;

/// <summary>Sums over the elements of vectors.</summary>
internal static class Vectors
{
    public static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        Vector<float> sum = Vector<float>.Zero;
        int i = 0;
        for (; i <= a.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            sum += new Vector<float>(a[i..]) * new Vector<float>(b[i..]);
        }

        float total = Vector.Sum(sum);
        for (; i < a.Length; i++)
        {
            total += a[i] * b[i];
        }

        return total;
    }

    /// <summary>|a|^2.</summary>
    public static float Square(ReadOnlySpan<float> a) => Dot(a, a);

    /// <summary>The sum of a[i]^2 * weights[i].</summary>
    public static float Square(ReadOnlySpan<float> a, ReadOnlySpan<float> weights)
    {
        Vector<float> sum = Vector<float>.Zero;
        int i = 0;
        for (; i <= a.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            var v = new Vector<float>(a[i..]);
            sum += v * v * new Vector<float>(weights[i..]);
        }

        float total = Vector.Sum(sum);
        for (; i < a.Length; i++)
        {
            total += a[i] * a[i] * weights[i];
        }

        return total;
    }

    /// <summary>sum += a * factor.</summary>
    public static void Add(Span<float> sum, ReadOnlySpan<float> a, float factor)
    {
        for (int i = 0; i < sum.Length; i++)
        {
            sum[i] += a[i] * factor;
        }
    }

    /// <summary>1 / |a|; 0 for the null vector.</summary>
    public static float InverseNorm(ReadOnlySpan<float> a)
    {
        float square = Square(a);
        return square > 0 ? 1 / MathF.Sqrt(square) : 0;
    }
}
