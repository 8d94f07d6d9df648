using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The rotation in binary32 by recursion: adds what the kernels' butterflies add, in their order.</summary>
public static class RotationOracle
{
    /// <summary>x' = H D x.</summary>
    public static float[] Apply(ReadOnlySpan<float> plain, ulong seed)
    {
        float[] signs = Rotation.Signs(plain.Length, seed);
        var rotated = new float[plain.Length];
        for (int i = 0; i < rotated.Length; i++)
        {
            rotated[i] = plain[i] * signs[i];
        }

        Transform(rotated);
        return rotated;
    }

    /// <summary>x = D H x'.</summary>
    public static float[] Undo(ReadOnlySpan<float> rotated, ulong seed)
    {
        float[] plain = rotated.ToArray();
        Transform(plain);
        float[] signs = Rotation.Signs(plain.Length, seed);
        for (int i = 0; i < plain.Length; i++)
        {
            plain[i] *= signs[i];
        }

        return plain;
    }

    private static void Transform(Span<float> x)
    {
        int block = x.Length & -x.Length;
        for (int start = 0; start < x.Length; start += block)
        {
            Recurse(x.Slice(start, block));
        }

        float norm = 1f / MathF.Sqrt(block);
        foreach (ref float e in x)
        {
            e *= norm;
        }
    }

    // H(2n) = [H(n) H(n); H(n) -H(n)]: inner halves first, which adds in the order of the butterflies.
    private static void Recurse(Span<float> x)
    {
        if (x.Length == 1)
        {
            return;
        }

        int half = x.Length / 2;
        Recurse(x[..half]);
        Recurse(x[half..]);
        for (int i = 0; i < half; i++)
        {
            (float a, float b) = (x[i], x[half + i]);
            x[i] = a + b;
            x[half + i] = a - b;
        }
    }
}
