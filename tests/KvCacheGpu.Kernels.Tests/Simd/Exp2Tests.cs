using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The powers of a softmax, on each width of vectors.</summary>
public unsafe class Exp2Tests
{
    [Fact]
    public void In_vectors_of_512_bits_a_power_is_right() => Holds<Simd512, Vector512<float>, Vector512<int>>();

    [Fact]
    public void In_vectors_of_256_bits_a_power_is_right() => Holds<Simd256, Vector256<float>, Vector256<int>>();

    [Fact]
    public void Alone_a_power_is_right() => Holds<SimdScalar, float, int>();

    private static void Holds<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        float[] exact = [0f, -1f, -2f, -100f, -126f];
        foreach (float x in exact)
        {
            Assert.Equal(MathF.Pow(2f, x), Of<S, F, I>(x));
        }

        float[] nothing = [-151f, -201f, -1e9f, float.MinValue, float.NegativeInfinity];
        foreach (float x in nothing)
        {
            Assert.Equal(0f, Of<S, F, I>(x));
        }

        var random = new Random(3);
        double most = 0;
        for (int i = 0; i < 100_000; i++)
        {
            float x = i % 2 == 0 ? -126f * random.NextSingle() : -MathF.Pow(2f, -24f * random.NextSingle());
            double expected = Math.Pow(2, x);
            most = Math.Max(most, Math.Abs(Of<S, F, I>(x) - expected) / expected);
        }

        Assert.InRange(most, 0, 2.5e-7);
    }

    private static float Of<S, F, I>(float x)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        float* lanes = stackalloc float[16];
        S.Store(lanes, Exp2<S, F, I>.Of(S.All(x)));
        return lanes[S.Lanes - 1];
    }
}
