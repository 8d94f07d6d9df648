using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// The I8 encoding of one vector in binary32, operation by operation as the format fixes it, but by recursion and the
/// runtime's own binary16: codes and scale must agree with a kernel's bit for bit.
/// </summary>
public static class Int8Oracle
{
    /// <summary>Codes, and the scale as binary16.</summary>
    public static (sbyte[] Codes, Half Scale) Encode(ReadOnlySpan<float> plain, ulong rotationSeed)
    {
        float[] signs = Rotation.Signs(plain.Length, rotationSeed);
        var rotated = new float[plain.Length];
        for (int i = 0; i < rotated.Length; i++)
        {
            rotated[i] = plain[i] * signs[i];
        }

        int block = rotated.Length & -rotated.Length;
        float norm = 1f / MathF.Sqrt(block);
        float largest = 0;
        for (int start = 0; start < rotated.Length; start += block)
        {
            Recurse(rotated.AsSpan(start, block));
        }

        for (int i = 0; i < rotated.Length; i++)
        {
            rotated[i] *= norm;
            largest = MathF.Max(largest, MathF.Abs(rotated[i]));
        }

        Half scale = RoundUp(largest / 127f);
        float s = (float)scale;
        var codes = new sbyte[rotated.Length];
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (sbyte)Math.Clamp(MathF.Round(rotated[i] / s, MidpointRounding.ToEven), -127f, 127f);
        }

        return (codes, scale);
    }

    private static Half RoundUp(float x)
    {
        var nearest = (Half)x;
        Half up = (float)nearest < x ? Half.BitIncrement(nearest) : nearest;
        return up == Half.Zero ? Half.Epsilon : up;
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
