using System.Runtime.Intrinsics;

namespace KvCacheGpu.Llama;

/// <summary>The operations of a layer on one token, besides matrices and attention.</summary>
internal static unsafe class TokenMath
{
    private const int Lanes = 8;

    /// <summary><c>x += delta</c>.</summary>
    public static void Add(float* x, float* delta, int width)
    {
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            (Vector256.Load(x + i) + Vector256.Load(delta + i)).Store(x + i);
        }

        for (; i < width; i++)
        {
            x[i] += delta[i];
        }
    }

    /// <summary><c>y = x / sqrt(mean(x^2) + epsilon) * scales</c> (RMSNorm).</summary>
    public static void Normalize(float* x, ReadOnlySpan<float> scales, double epsilon, float* y)
    {
        int width = scales.Length;
        Vector256<float> sums = default;
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            Vector256<float> v = Vector256.Load(x + i);
            sums += v * v;
        }

        double sum = Vector256.Sum(sums);
        for (; i < width; i++)
        {
            sum += (double)x[i] * x[i];
        }

        float factor = (float)(1 / Math.Sqrt((sum / width) + epsilon));
        fixed (float* scale = scales)
        {
            for (i = 0; i <= width - Lanes; i += Lanes)
            {
                (Vector256.Load(x + i) * factor * Vector256.Load(scale + i)).Store(y + i);
            }

            for (; i < width; i++)
            {
                y[i] = x[i] * factor * scale[i];
            }
        }
    }

    /// <summary>Rotates the pairs (i, i + width/2) of each head by the token's angles (RoPE, half-split).</summary>
    /// <param name="heads">Heads <c>[count][width]</c>, in place.</param>
    /// <param name="count">Number of heads.</param>
    /// <param name="width">Number of elements of a head, which is even.</param>
    /// <param name="cosines">Cosines <c>[width/2]</c> of the token's angles, followed by their sines <c>[width/2]</c>.</param>
    public static void Rotate(float* heads, int count, int width, float* cosines)
    {
        int half = width / 2;
        float* sines = cosines + half;
        for (int head = 0; head < count; head++, heads += width)
        {
            int i = 0;
            for (; i <= half - Lanes; i += Lanes)
            {
                Vector256<float> a = Vector256.Load(heads + i), b = Vector256.Load(heads + half + i);
                Vector256<float> c = Vector256.Load(cosines + i), s = Vector256.Load(sines + i);
                ((a * c) - (b * s)).Store(heads + i);
                ((b * c) + (a * s)).Store(heads + half + i);
            }

            for (; i < half; i++)
            {
                (float a, float b) = (heads[i], heads[half + i]);
                heads[i] = (a * cosines[i]) - (b * sines[i]);
                heads[half + i] = (b * cosines[i]) + (a * sines[i]);
            }
        }
    }

    /// <summary><c>gate = silu(gate) * up</c> (SwiGLU).</summary>
    public static void Gate(float* gate, float* up, int width)
    {
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            Vector256<float> g = Vector256.Load(gate + i);
            (g / (Vector256<float>.One + Vector256.Exp(-g)) * Vector256.Load(up + i)).Store(gate + i);
        }

        for (; i < width; i++)
        {
            gate[i] = gate[i] / (1 + MathF.Exp(-gate[i])) * up[i];
        }
    }
}
