using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Linear layers against a double loop, at sizes that fill no panel, no block and no vector.</summary>
public sealed unsafe class LinearTests
{
    public static TheoryData<string, int, int, int> Sizes()
    {
        TheoryData<string, int, int, int> sizes = [];
        foreach (string type in new[] { "F32", "F16", "BF16" })
        {
            foreach ((int rows, int columns) in new[] { (1, 1), (7, 13), (32, 16), (33, 257), (100, 640), (64, 1000) })
            {
                foreach (int tokens in new[] { 1, 2, 3, 8, 13, 64, 65, 131 })
                {
                    sizes.Add(type, rows, columns, tokens);
                }
            }
        }

        return sizes;
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Products_are_those_of_a_double_loop_and_the_same_bits_at_every_level(string type, int rows, int columns, int tokens)
    {
        using TinyCheckpoint checkpoint = new(seed: rows + columns + tokens, hidden: 8, heads: 1, kvHeads: 1, inner: 8, vocabulary: 3);
        checkpoint.Add("first", type, rows, columns);
        checkpoint.Add("second", type, 5, columns);
        checkpoint.Write();
        using WeightFiles file = WeightFiles.Open(checkpoint.Path);
        using PackedMatrix matrix = PackedMatrix.Load(file, columns, ("first", rows), ("second", 5));
        double[] weights = [.. Decode(checkpoint.Tensors["first"]), .. Decode(checkpoint.Tensors["second"])];
        Assert.Equal(rows + 5, matrix.Rows);

        Random random = new(5);
        int xStride = columns + 3;
        int yStride = matrix.PaddedRows + 1;
        float[] x = [.. Enumerable.Range(0, tokens * xStride).Select(_ => random.NextSingle() - 0.5f)];
        float[]? first = null;
        foreach (SimdLevel level in new[] { SimdLevel.Scalar, SimdLevel.Vector256, SimdLevel.Vector512 })
        {
            float[] y = new float[tokens * yStride];
            fixed (float* px = x, py = y)
            {
                new MatrixProduct(level).Multiply(matrix, px, xStride, py, yStride, tokens);
            }

            first ??= y;
            Assert.Equal(first, y);
        }

        for (int t = 0; t < tokens; t++)
        {
            for (int r = 0; r < rows + 5; r++)
            {
                double sum = 0, size = 0;
                for (int k = 0; k < columns; k++)
                {
                    double term = weights[(r * columns) + k] * x[(t * xStride) + k];
                    sum += term;
                    size += Math.Abs(term);
                }

                Assert.InRange(first![(t * yStride) + r], sum - (1e-5 * size) - 1e-30, sum + (1e-5 * size) + 1e-30);
            }
        }
    }

    [Theory]
    [InlineData(SimdLevel.Scalar)]
    [InlineData(SimdLevel.Vector256)]
    [InlineData(SimdLevel.Vector512)]
    public void Every_finite_binary16_widens_exactly(SimdLevel level)
    {
        ushort[] bits = [.. Enumerable.Range(0, 65536).Where(b => (b & 0x7c00) != 0x7c00).Select(b => (ushort)b)];
        float[] widened = new float[bits.Length];
        fixed (ushort* source = bits)
        {
            fixed (float* target = widened)
            {
                PanelKernels.For(level).Widen(WeightType.F16, (byte*)source, bits.Length / 32, target);
            }
        }

        for (int i = 0; i < bits.Length; i++)
        {
            Assert.Equal(BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf(bits[i])), BitConverter.SingleToUInt32Bits(widened[i]));
        }
    }

    [Fact]
    public void Rows_read_back_as_they_were_written()
    {
        using TinyCheckpoint checkpoint = new(type: "BF16");
        checkpoint.Write();
        using WeightFiles file = WeightFiles.Open(checkpoint.Path);
        using PackedMatrix matrix = PackedMatrix.Load(file, 24, ("model.embed_tokens.weight", 50));
        double[] weights = Decode(checkpoint.Tensors["model.embed_tokens.weight"]);
        float[] row = new float[24];
        for (int r = 0; r < 50; r++)
        {
            matrix.ReadRow(r, row);
            Assert.Equal(weights[(r * 24)..((r + 1) * 24)], row.Select(v => (double)v));
        }
    }

    [Fact]
    public void Matrices_of_different_types_stack_exactly()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Add("a", "F16", 9, 11);
        checkpoint.Add("b", "BF16", 30, 11);
        checkpoint.Add("c", "F32", 2, 11);
        checkpoint.Write();
        using WeightFiles file = WeightFiles.Open(checkpoint.Path);
        using PackedMatrix matrix = PackedMatrix.Load(file, 11, ("a", 9), ("b", 30), ("c", 2));
        double[] weights = [.. new[] { "a", "b", "c" }.SelectMany(n => Decode(checkpoint.Tensors[n]))];
        float[] row = new float[11];
        for (int r = 0; r < 41; r++)
        {
            matrix.ReadRow(r, row);
            Assert.Equal(weights[(r * 11)..((r + 1) * 11)], row.Select(v => (double)v));
        }
    }

    private static double[] Decode((string Type, int[] Shape, byte[] Bytes) tensor) => tensor.Type switch
    {
        "F32" => [.. tensor.Bytes.Chunk(4).Select(b => (double)BitConverter.ToSingle(b))],
        "F16" => [.. tensor.Bytes.Chunk(2).Select(b => (double)BitConverter.ToHalf(b))],
        _ => [.. tensor.Bytes.Chunk(2).Select(b => (double)BitConverter.Int32BitsToSingle(BitConverter.ToInt16(b) << 16))],
    };
}
