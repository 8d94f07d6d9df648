using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Codes of the formats of exchange by vectors are those of their definitions, element by element.</summary>
public unsafe class ExchangeCodesTests
{
    private const int Width = 7 * GgmlCodes.Elements;

    public static TheoryData<int, PageFormat> Cases()
    {
        var cases = new TheoryData<int, PageFormat>();
        foreach (PageFormat format in new[] { PageFormat.FP8, PageFormat.Q8, PageFormat.Q4 })
        {
            foreach (int bits in new[] { 512, 256, 0 })
            {
                cases.Add(bits, format);
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Codes_and_scales_are_those_of_the_definition(int vectorBits, PageFormat format)
    {
        var random = new Random(20261129 + (int)format);
        for (int round = 0; round < 3000; round++)
        {
            float[] x = Vector(random, round % 8);
            (byte[] codes, ushort[] scales, uint worst) = vectorBits switch
            {
                512 => Encode<Simd512, Vector512<float>, Vector512<int>>(format, x),
                256 => Encode<Simd256, Vector256<float>, Vector256<int>>(format, x),
                _ => Encode<SimdScalar, float, int>(format, x),
            };
            byte[] expected = new byte[Width];
            ushort[] expectedScales = new ushort[Width / GgmlCodes.Elements];
            for (int block = 0; block < expectedScales.Length; block++)
            {
                Span<float> own = x.AsSpan(block * GgmlCodes.Elements, GgmlCodes.Elements);
                Span<byte> to = expected.AsSpan(block * GgmlCodes.Elements, GgmlCodes.Elements);
                if (format != PageFormat.FP8)
                {
                    expectedScales[block] = GgmlCodes.Encode(format, own, to);
                    continue;
                }

                for (int i = 0; i < own.Length; i++)
                {
                    to[i] = (byte)Bits8.Fp8FromSingleBits(BitConverter.SingleToUInt32Bits(own[i]));
                }
            }

            Assert.Equal(expected, codes);
            Assert.Equal(expectedScales, scales);
            Assert.Equal(expectedScales.Max(scale => scale & 0x7FFFu), worst);
        }
    }

    // Normal numbers, powers of two, ties of either rounding, equal extremes, zeros, and numbers that are rare.
    private static float[] Vector(Random random, int kind)
    {
        float[] x = [.. Enumerable.Range(0, Width).Select(_ => kind switch
        {
            0 => (float)Normal(random),
            1 => MathF.ScaleB(1 + random.NextSingle(), random.Next(-140, 120)) * (random.Next(2) == 0 ? 1 : -1),
            2 => random.Next(-254, 255) / 2f,
            3 => random.Next(-16, 17) / 2f,
            4 => random.Next(-2, 3) * 1e-39f,
            5 => random.Next(40) == 0 ? float.NaN : random.Next(40) == 0 ? float.NegativeInfinity : (float)Normal(random) * 300,
            6 => MathF.ScaleB(random.Next(-20, 20), -random.Next(6, 12)),
            _ => random.Next(3) == 0 ? 0 : random.Next(2) == 0 ? 448f : -449f,
        })];
        if (kind is 2 or 3)
        {
            // The scale is a whole number, so that halves stay ties.
            for (int block = 0; block < Width; block += GgmlCodes.Elements)
            {
                x[block + random.Next(GgmlCodes.Elements)] = kind == 2 ? 127 : random.Next(2) == 0 ? -8 : 8;
            }
        }

        return x;
    }

    private static double Normal(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    private static (byte[] Codes, ushort[] Scales, uint Worst) Encode<S, F, I>(PageFormat format, float[] x)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        byte[] codes = new byte[Width];
        ushort[] scales = new ushort[Width / GgmlCodes.Elements];
        uint worst = 0;
        fixed (float* from = x)
        fixed (byte* to = codes)
        fixed (ushort* of = scales)
        {
            if (format == PageFormat.FP8)
            {
                VectorExchange<S, F, I>.ToFp8(from, Width, to);
            }
            else
            {
                worst = VectorExchange<S, F, I>.ToBlocks(format == PageFormat.Q8, from, scales.Length, to, of, 1);
            }
        }

        return (codes, scales, worst);
    }
}
