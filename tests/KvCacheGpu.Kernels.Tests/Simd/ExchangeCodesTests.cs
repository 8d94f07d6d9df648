using System.Runtime.Intrinsics;
using KvCacheGpu.TestKit;

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

    /// <summary>Vectors of every kind beside each other, as many as there are lanes and fewer.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Codes_and_scales_are_those_of_the_definition(int vectorBits, PageFormat format)
    {
        var random = new Random(20261129 + (int)format);
        for (int round = 0; round < 300; round++)
        {
            int tokens = 1 + (round % (vectorBits == 0 ? 1 : vectorBits / 32));
            float[][] vectors = [.. Enumerable.Range(0, tokens).Select(_ => Vector(random, random.Next(8)))];
            (byte[][] codes, ushort[][] scales, bool holds) = vectorBits switch
            {
                512 => Encode<Simd512, Vector512<float>, Vector512<int>>(format, vectors),
                256 => Encode<Simd256, Vector256<float>, Vector256<int>>(format, vectors),
                _ => Encode<SimdScalar, float, int>(format, vectors),
            };
            bool isHeld = true;
            for (int t = 0; t < tokens; t++)
            {
                (byte[] expected, ushort[] expectedScales) = Defined(format, vectors[t]);
                Assert.Equal(expected, codes[t]);
                Assert.Equal(expectedScales, scales[t]);
                isHeld &= expectedScales.All(scale => (scale & 0x7FFF) < 0x7C00);
            }

            Assert.Equal(isHeld, holds);
        }
    }

    private static (byte[] Codes, ushort[] Scales) Defined(PageFormat format, float[] x)
    {
        byte[] codes = new byte[Width];
        if (format == PageFormat.FP8)
        {
            return ([.. x.Select(e => (byte)Bits8.Fp8FromSingleBits(BitConverter.SingleToUInt32Bits(e)))], []);
        }

        ushort[] scales = new ushort[Width / GgmlCodes.Elements];
        for (int block = 0; block < scales.Length; block++)
        {
            int first = block * GgmlCodes.Elements;
            scales[block] = GgmlCodes.Encode(format, x.AsSpan(first, GgmlCodes.Elements), codes.AsSpan(first, GgmlCodes.Elements));
        }

        return (codes, scales);
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

    private static (byte[][] Codes, ushort[][] Scales, bool Holds) Encode<S, F, I>(PageFormat format, float[][] vectors)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        var geometry = new KvGeometry(1, 1, 1, Width, pageTokens: 16);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F32, format, format);
        PageLayout layout = shape.Classes[KernelShape.Sealed];
        int stride = VectorPlan.StrideOf(Width);
        float[] memory = new float[EncodeScratch.FloatsFor(shape)];
        int[] page = new int[layout.Units * PageLayout.UnitWords];
        fixed (float* floats = memory)
        fixed (int* words = page)
        {
            var scratch = new EncodeScratch(shape, floats);
            for (int t = 0; t < vectors.Length; t++)
            {
                vectors[t].CopyTo(new Span<float>(scratch.Vectors + (t * stride), Width));
            }

            PagePart part = PagePart.Values(layout, words, Width);
            bool holds = VectorEncode<S, F, I>.ToExchange(scratch, scratch.Vectors, stride, part, 0, vectors.Length);
            byte[][] codes = new byte[vectors.Length][];
            ushort[][] scales = new ushort[vectors.Length][];
            for (int t = 0; t < vectors.Length; t++)
            {
                codes[t] = new byte[Width];
                fixed (byte* to = codes[t])
                {
                    PackCodes.Unpack(format, part.Words + (t * part.VectorWords), Width, to);
                }

                scales[t] = [.. Enumerable.Range(0, part.Planes).Select(plane => ScaleOf(part, plane, t))];
            }

            return (codes, scales, holds);
        }
    }

    private static ushort ScaleOf(in PagePart part, int plane, int token) => part.Scales[(plane * part.ScaleStride) + token];
}
