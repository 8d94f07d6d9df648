using System.Numerics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The rotation x' = H D x that spreads outliers over a vector before it is quantized: D fixed signs, H the orthonormal
/// Hadamard matrix over blocks of the largest power of two that divides the width. Its inverse is x = D H x'.
/// </summary>
/// <remarks>Source: QuaRot (Ashkboos et al. 2024); signs per model as in QuIP#. The seed is part of the stored format.</remarks>
public static class Rotation
{
    /// <summary>Elements of one Hadamard block for vectors of <paramref name="width"/>.</summary>
    public static int BlockSize(int width) => 1 << BitOperations.TrailingZeroCount(width);

    /// <summary>The factor 1/sqrt(block) that makes the butterflies orthonormal; applied after them, once.</summary>
    public static float Norm(int width) => 1f / MathF.Sqrt(BlockSize(width));

    /// <summary>The diagonal of D: +1 or -1 for each of <paramref name="width"/> elements.</summary>
    public static float[] Signs(int width, ulong seed)
    {
        var signs = new float[width];
        ulong stream = Mix(seed);
        for (int i = 0; i < width; i++)
        {
            signs[i] = (Mix(stream + (ulong)i) & 1) == 0 ? 1f : -1f;
        }

        return signs;
    }

    /// <summary>Rotates one vector in place: the definition that every tier's kernel equals bit for bit.</summary>
    public static void Apply(Span<float> vector, ReadOnlySpan<float> signs)
    {
        for (int i = 0; i < vector.Length; i++)
        {
            vector[i] *= signs[i];
        }

        Transform(vector);
    }

    /// <summary>Undoes <see cref="Apply"/>.</summary>
    public static void Undo(Span<float> vector, ReadOnlySpan<float> signs)
    {
        Transform(vector);
        for (int i = 0; i < vector.Length; i++)
        {
            vector[i] *= signs[i];
        }
    }

    private static void Transform(Span<float> vector)
    {
        int block = BlockSize(vector.Length);
        for (int half = 1; half < block; half *= 2)
        {
            for (int start = 0; start < vector.Length; start += 2 * half)
            {
                Combine(vector.Slice(start, half), vector.Slice(start + half, half));
            }
        }

        float norm = Norm(vector.Length);
        for (int i = 0; i < vector.Length; i++)
        {
            vector[i] *= norm;
        }
    }

    // One butterfly of each pair: lanes change neither operands nor order, so that the sums are the same to the bit.
    private static void Combine(Span<float> a, Span<float> b)
    {
        int i = 0;
        for (; i <= a.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            (var x, var y) = (new Vector<float>(a[i..]), new Vector<float>(b[i..]));
            (x + y).CopyTo(a[i..]);
            (x - y).CopyTo(b[i..]);
        }

        for (; i < a.Length; i++)
        {
            (a[i], b[i]) = (a[i] + b[i], a[i] - b[i]);
        }
    }

    // SplitMix64 (Steele et al. 2014): neighbouring seeds give unrelated bits.
    private static ulong Mix(ulong z)
    {
        z += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
