using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public class GgmlBlocksTests
{
    private const int Width = 96;

    public static TheoryData<PageFormat> Formats => [PageFormat.Q8, PageFormat.Q4];

    // Computed by ggml's quantize_row_q8_0_ref and quantize_row_q4_0_ref by hand: x[i] = i - 16, d = 16 / 127 and -16 / -8.
    [Fact]
    public void A_ramp_is_the_bytes_that_ggml_writes()
    {
        float[] ramp = [.. Enumerable.Range(0, 32).Select(i => i - 16f)];
        byte[] eight = new byte[34], four = new byte[18];
        GgmlBlocks.Quantize(PageFormat.Q8, ramp, eight);
        GgmlBlocks.Quantize(PageFormat.Q4, ramp, four);
        Assert.Equal(BitConverter.HalfToUInt16Bits((Half)(16f / 127f)), BitConverter.ToUInt16(eight));
        Assert.Equal([.. ramp.Select(x => (byte)(sbyte)Math.Round(x * 127 / 16, MidpointRounding.AwayFromZero))], eight[2..]);
        Assert.Equal(0x4000, BitConverter.ToUInt16(four));
        Assert.Equal([.. Enumerable.Range(0, 16).Select(j => (byte)((j + 1) / 2 | (Math.Min(15, (j + 17) / 2) << 4)))], four[2..]);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void Random_vectors_are_the_oracles_codes(PageFormat format)
    {
        float[] vector = Vector(5);
        (uint[] codes, Half[] scales) = format == PageFormat.Q8 ? GgmlOracle.Q8(vector) : GgmlOracle.Q4(vector);
        byte[] blocks = Quantized(format, vector);
        var back = new float[Width];
        GgmlBlocks.Dequantize(format, blocks, back);
        for (int i = 0; i < Width; i++)
        {
            int code = format == PageFormat.Q8 ? (sbyte)codes[i] : (int)codes[i] - 8;
            Assert.Equal((float)scales[i / 32] * code, back[i]);
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public unsafe void Blocks_survive_import_as_floats_into_an_open_page_and_sealing(PageFormat format)
    {
        var geometry = new KvGeometry(1, 1, 1, Width, pageTokens: 5);
        var open = new PageLayout(geometry, PageFormat.F32, PageFormat.F32, hasDigest: false);
        var closed = new PageLayout(geometry, format, format);
        var shape = new KernelShape(geometry, open, closed, rotationSeed: 1, sequences: 1, tableCapacity: 1);
        var map = new TableMap(shape);
        using var tier = new SimdTier(shape, map.Bytes + map.LeafBytes + open.Bytes + closed.Bytes);
        int slot = map.FirstPageUnit + map.LeafUnits;
        tier.OpenLeaf(0, 0, map.FirstPageUnit);
        tier.WriteCount(0, 0, 1);
        tier.WriteEntry(0, 0, 0, slot, TableMap.Tag(KernelShape.Open, 0));
        byte[][] keys = [.. Enumerable.Range(0, 5).Select(t => Quantized(format, Vector(10 + t)))];
        byte[][] values = [.. Enumerable.Range(0, 5).Select(t => Quantized(format, Vector(20 + t)))];
        using KernelBatch batch = tier.CreateBatch(1, 5);
        batch.Begin([new RaggedSequence(0, 0, 5, 5)]);
        batch.Append(0, Floats(format, keys), Floats(format, values));
        Assert.Null(batch.End());
        tier.Transcode([new PageMove(slot, KernelShape.Open, slot + open.Units, KernelShape.Sealed, 5)]);

        var page = new int[closed.Units * PageLayout.UnitWords];
        tier.Read((long)(slot + open.Units) * PageLayout.UnitWords, page);
        var copy = new int[page.Length];
        for (int t = 0; t < 5; t++)
        {
            Assert.Equal(keys[t], FromPage(closed, page, isValue: false, t));
            Assert.Equal(values[t], FromPage(closed, page, isValue: true, t));
            GgmlBlocks.ToPage(closed, copy, isValue: false, t, keys[t]);
            GgmlBlocks.ToPage(closed, copy, isValue: true, t, values[t]);
            Assert.Equal(keys[t], FromPage(closed, copy, isValue: false, t));
        }

        Assert.Equal(page[..closed.KeyScaleOffset], copy[..closed.KeyScaleOffset]);
    }

    [Fact]
    public void What_is_no_block_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => GgmlBlocks.BlockBytes(PageFormat.I8));
        Assert.Throws<ArgumentException>(() => GgmlBlocks.BytesOf(PageFormat.Q8, 40));
        Assert.Throws<ArgumentException>(() => GgmlBlocks.Quantize(PageFormat.Q4, new float[32], new byte[34]));
        Assert.Throws<ArgumentException>(() => GgmlBlocks.Dequantize(PageFormat.Q8, new byte[18], new float[32]));
    }

    private static float[] Vector(int seed)
    {
        var gaussian = new Gaussian(seed);
        return [.. Enumerable.Range(0, Width).Select(_ => (float)gaussian.Next())];
    }

    private static byte[] Quantized(PageFormat format, float[] vector)
    {
        var blocks = new byte[GgmlBlocks.BytesOf(format, vector.Length)];
        GgmlBlocks.Quantize(format, vector, blocks);
        return blocks;
    }

    private static byte[] FromPage(PageLayout layout, int[] page, bool isValue, int token)
    {
        var blocks = new byte[GgmlBlocks.BytesOf(layout.KeyFormat, Width)];
        GgmlBlocks.FromPage(layout, page, isValue, token, blocks);
        return blocks;
    }

    private static float[] Floats(PageFormat format, byte[][] vectors) => [.. vectors.SelectMany(blocks =>
    {
        var vector = new float[Width];
        GgmlBlocks.Dequantize(format, blocks, vector);
        return vector;
    })];
}
