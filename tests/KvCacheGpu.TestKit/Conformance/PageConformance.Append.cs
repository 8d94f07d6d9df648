using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Append writes the nearest bits at the places that the layout draws, and changes no other bits.</summary>
public abstract partial class PageConformance<TTier>
    where TTier : ITierUnderTest
{
    private const byte Untouched = 0xFF;

    public static TheoryData<PageFormat, int, int, int> AppendCases()
    {
        var cases = new TheoryData<PageFormat, int, int, int>();
        (int Key, int Value)[] widths = [(8, 8), (48, 64), (80, 48), (192, 128), (576, 512)];
        for (int i = 0; i < 12; i++)
        {
            (int key, int value) = widths[i % widths.Length];
            cases.Add(Shapes.FullPrecision[i % 3], key, value, i < 6 ? 5 : 16);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(AppendCases))]
    public void Append_writes_the_nearest_bits_in_the_drawn_layout_and_nothing_else(
        PageFormat format, int keyWidth, int valueWidth, int pageTokens)
    {
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 30);
        (int first, int second) = (pageTokens - 2, 6);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 1, 1));
        float[] keys = HardVectors.Make(first + second, 2, keyWidth, 21);
        float[] values = HardVectors.Make(first + second, 2, valueWidth, 22);
        AppendTokens(harness, sequence, keys, values, 0, first);
        AppendTokens(harness, sequence, keys, values, first, second);
        for (int head = 0; head < 2; head++)
        {
            foreach (PageEntry entry in sequence.Rows[0, head])
            {
                byte[] got = harness.ReadBytes(entry.Slot, KernelShape.Open);
                byte[] expected = new byte[got.Length];
                Array.Fill(expected, Untouched);
                for (int position = entry.PageIndex * pageTokens; position < Math.Min(first + second, (entry.PageIndex + 1) * pageTokens); position++)
                {
                    int vector = (position * 2) + head;
                    PageBytes.PutKey(expected, harness.Shape, position % pageTokens, keys.AsSpan(vector * keyWidth, keyWidth));
                    PageBytes.PutValue(expected, harness.Shape, position % pageTokens, values.AsSpan(vector * valueWidth, valueWidth));
                }

                Assert.Equal(expected, got);
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.BF16)]
    public void Tensors_of_any_type_and_stride_write_what_dense_singles_write(PageFormat format)
    {
        var geometry = new KvGeometry(1, 3, 3, 48, 80, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 100);
        // Both 16-bit types hold these exactly: seven bits of mantissa, within the range of binary16.
        float[] keys = Coarse(HardVectors.Make(7, 3, 48, 31));
        float[] values = Coarse(HardVectors.Make(7, 3, 80, 32));
        byte[][] dense = Written(harness, keys, values);
        Assert.Equal(dense, Written(harness, Strided.Halves(keys), Strided.Halves(values)));
        Assert.Equal(dense, Written(
            harness, KvTensor.FromHostBFloat16(Strided.BFloat16s(keys)), KvTensor.FromHostBFloat16(Strided.BFloat16s(values))));
        Assert.Equal(dense, Written(
            harness,
            KvTensor.FromHost(Strided.Spread(keys, 3, 48, 200, 60), 200, 60),
            KvTensor.FromHost(Strided.Spread(values, 3, 80, 83, 700), 83, 700)));
    }

    [Fact]
    public void A_ragged_launch_writes_each_sequence_what_it_writes_alone_and_only_the_addressed_layer()
    {
        var geometry = new KvGeometry(3, 4, 2, 48, pageTokens: 5);
        KernelShape shape = Shapes.Plain(geometry, PageFormat.BF16);
        SequenceData[] data = [.. new[] { 12, 1, 9 }.Select((tokens, i) => new SequenceData(geometry, tokens, 60 + i))];
        using var batched = new TierHarness(TTier.Create, shape, 200);
        HarnessSequence[] sequences = [.. data.Select(batched.Add)];
        batched.Fill(sequences[0], 8);
        batched.Begin(true, (sequences[0], 4), (sequences[1], 1), (sequences[2], 9));
        byte[][] before = [.. Layers(batched, sequences, 0).Concat(Layers(batched, sequences, 2))];
        batched.Append(1);
        Assert.Null(batched.End());
        Assert.Equal(before, Layers(batched, sequences, 0).Concat(Layers(batched, sequences, 2)));
        for (int i = 0; i < data.Length; i++)
        {
            using var alone = new TierHarness(TTier.Create, shape, 200, seed: 9);
            HarnessSequence sequence = alone.Add(data[i]);
            alone.Begin((sequence, data[i].Tokens));
            alone.Append(1);
            alone.End();
            Assert.Equal(Layers(alone, [sequence], 1), Layers(batched, [sequences[i]], 1));
        }
    }

    public static TheoryData<PageFormat, PageFormat> NaturalPairs()
    {
        var cases = new TheoryData<PageFormat, PageFormat>();
        Array.ForEach(FormatPairs.Natural, pair => cases.Add(pair.Key, pair.Value));
        return cases;
    }

    [Theory]
    [MemberData(nameof(NaturalPairs))]
    public void Sealed_pages_keep_every_byte_while_a_thousand_tokens_follow(PageFormat key, PageFormat value)
    {
        var geometry = new KvGeometry(1, 1, 1, 32, pageTokens: 16);
        PageFormat open = FormatPairs.OpenFor((key, value), 1);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, open, key, value, capacity: 80), 140);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 1050, 70));
        harness.Fill(sequence, 50);
        PageEntry[] pages = [.. sequence.Rows[0, 0].Where(e => e.PageClass == KernelShape.Sealed)];
        byte[][] before = [.. pages.Select(e => harness.ReadBytes(e.Slot, KernelShape.Sealed))];
        foreach (int tokens in new[] { 1, 1, 30, 68, 400, 500 })
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            if (tokens <= 30)
            {
                harness.Attend(0);
            }

            harness.Seal(sequence);
        }

        Assert.Equal(2, pages.Length);
        Assert.Equal(1050, sequence.Length);
        Assert.Equal(before, pages.Select(e => harness.ReadBytes(e.Slot, KernelShape.Sealed)));
    }

    private static void AppendTokens(TierHarness harness, HarnessSequence sequence, float[] keys, float[] values, int from, int tokens)
    {
        KvGeometry g = harness.Shape.Geometry;
        (int keyFloats, int valueFloats) = (g.KvHeads * g.KeyWidth, g.KvHeads * g.ValueWidth);
        harness.Begin((sequence, tokens));
        harness.Append(0, keys.AsSpan(from * keyFloats, tokens * keyFloats), values.AsSpan(from * valueFloats, tokens * valueFloats));
        Assert.Null(harness.End());
    }

    private static byte[][] Written(TierHarness harness, KvTensor keys, KvTensor values)
    {
        HarnessSequence sequence = harness.Add(new SequenceData(harness.Shape.Geometry, 1, 1));
        harness.Begin((sequence, 7));
        harness.Append(0, keys, values);
        Assert.Null(harness.End());
        return Layers(harness, [sequence], 0);
    }

    private static byte[][] Written(TierHarness harness, Half[] keys, Half[] values) =>
        Written(harness, KvTensor.FromHost(keys), KvTensor.FromHost(values));

    private static byte[][] Layers(TierHarness harness, HarnessSequence[] sequences, int layer) =>
        [.. from s in sequences
            from head in Enumerable.Range(0, harness.Shape.Geometry.KvHeads)
            from entry in s.Rows[layer, head]
            select harness.ReadBytes(entry.Slot, entry.PageClass)];

    private static float[] Coarse(float[] vectors) =>
        [.. vectors.Select(x => MathF.Abs(x) is < 6.2e-5f or > 65000f ? 1.5f : BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(x) & 0xFFFF0000))];
}
