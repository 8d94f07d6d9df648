using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The hyperbolic tangent of the soft cap, of each vector width and of the device code, against the host's in binary64.</summary>
public unsafe class LogitCapTests
{
    private const double Bound = 3e-7;

    [Fact]
    public void Vectors_of_512_bits_hold_the_bound() => HoldsTheBound(Simd<Simd512, Vector512<float>, Vector512<int>>);

    [Fact]
    public void Vectors_of_256_bits_hold_the_bound() => HoldsTheBound(Simd<Simd256, Vector256<float>, Vector256<int>>);

    [Fact]
    public void Numbers_one_by_one_hold_the_bound() => HoldsTheBound(Simd<SimdScalar, float, int>);

    [Fact]
    public void Device_code_holds_the_bound() => HoldsTheBound(x => [.. x.Select(PortableMath.Tanh)]);

    private static void HoldsTheBound(Func<float[], float[]> tanh)
    {
        // Every 997th number of binary32 up to 12, from where on all are 1, and the sign's other half.
        var numbers = new List<float>();
        for (int bits = 0; bits < BitConverter.SingleToInt32Bits(12f); bits += 997)
        {
            numbers.Add(BitConverter.Int32BitsToSingle(bits));
            numbers.Add(-BitConverter.Int32BitsToSingle(bits));
        }

        numbers.AddRange([0.625f, 0.62499994f, -0.625f, 12f, -50f, 1e30f, float.MaxValue, float.PositiveInfinity, float.NegativeInfinity]);
        while (numbers.Count % 16 != 0)
        {
            numbers.Add(0);
        }

        float[] got = tanh([.. numbers]);
        double worst = 0;
        for (int i = 0; i < got.Length; i++)
        {
            double expected = Math.Tanh(numbers[i]);
            double error = expected == got[i] ? 0 : Math.Abs(got[i] - expected) / Math.Max(Math.Abs(expected), 1.2e-38);
            worst = Math.Max(worst, error);
            Assert.True(error <= Bound, $"tanh({numbers[i]:r}): expected {expected:r}, got {got[i]:r}");
            Assert.InRange(got[i], -1f, 1f);
        }

        // Were it 0, nothing would have been compared.
        Assert.InRange(worst, 1e-8, Bound);
        Assert.True(float.IsNaN(tanh([.. Enumerable.Repeat(float.NaN, 16)])[3]));
    }

    private static float[] Simd<S, F, I>(float[] numbers)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        float[] results = new float[numbers.Length];
        fixed (float* x = numbers, y = results)
        {
            for (int i = 0; i < numbers.Length; i += S.Lanes)
            {
                S.Store(y + i, LogitCap<S, F, I>.Tanh(S.Load(x + i)));
            }
        }

        return results;
    }
}
