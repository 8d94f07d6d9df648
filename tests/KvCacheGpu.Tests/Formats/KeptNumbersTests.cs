namespace KvCacheGpu.Tests;

/// <summary>What is no finite number and is kept comes back as it was, and shows in what attends to it: never as a number.</summary>
public sealed class KeptNumbersTests
{
    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 16, pageTokens: 4) { Rope = new KvRope { Theta = 100 } };

    public static TheoryData<PageFormat, float> Kept { get; } = new()
    {
        { PageFormat.F32, float.NaN },
        { PageFormat.F32, float.PositiveInfinity },
        { PageFormat.F16, float.NaN },
        { PageFormat.F16, float.PositiveInfinity },
        { PageFormat.F16, float.NegativeInfinity },
        { PageFormat.BF16, float.NaN },
        { PageFormat.BF16, float.NegativeInfinity },
    };

    [Theory]
    [MemberData(nameof(Kept))]
    public void It_is_read_as_it_is(PageFormat format, float number)
    {
        using KvCache cache = Cache(format);
        for (int element = 0; element < G.ValueWidth; element++)
        {
            using KvSequence sequence = Fed(cache, element, number);
            float[] values = sequence.Materialized(1).Values;
            float[] expected = Content(1, element, number).Values;
            int at = Array.FindIndex(expected, one => !float.IsFinite(one));
            Assert.Equal(number, values[at]);
            values[at] = expected[at] = 0;

            // As near as bfloat16 is.
            Assert.All(expected.Zip(values), pair => Assert.Equal(pair.First, pair.Second, 1f / 128));
        }
    }

    [Theory]
    [MemberData(nameof(Kept))]
    public void Attention_over_it_is_no_number(PageFormat format, float number)
    {
        using KvCache cache = Cache(format);
        using KvSequence sequence = Fed(cache, 3, number);
        float[] output = new float[G.QueryHeads * G.ValueWidth];
        sequence.Attend(1, TokenContent.Queries(G, 1, [77]), output);
        Assert.False(float.IsFinite(output[3]), $"{output[3]} from {number} in {format}");
        Assert.True(float.IsFinite(output[2]));
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.I8, PageFormat.I8, false)]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.I8, false)]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.I8, true)]
    [InlineData(PageFormat.F16, PageFormat.T4, PageFormat.V4, false)]
    [InlineData(PageFormat.F16, PageFormat.T4, PageFormat.V4, true)]
    [InlineData(PageFormat.BF16, PageFormat.T3, PageFormat.V3, true)]
    public void Its_page_is_not_sealed_into_fewer_bits(PageFormat full, PageFormat key, PageFormat value, bool isKey)
    {
        KvCacheOptions config = TestCaches.Config(new KvFormats(key, value));
        (config.NonFinite, config.FullPrecision) = (NonFinitePolicy.Keep, full);
        using KvCache cache = TestCaches.Simd(G, config);
        foreach (float number in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
        {
            KvSequence sequence = Fed(cache, 3, number, isKey);
            sequence.FeedMany(20, 5);
            Assert.Equal([1, 0, 1, 0], Enumerable.Range(0, 4).Select(entry => sequence.State.Table.PageClass(0, entry)));
            Assert.True(sequence.State.Table.IsSealed(0, 1));
            float[] read = isKey ? sequence.Materialized(0).Keys : sequence.Materialized(0).Values;
            Assert.Equal(number, read[(5 * G.KvHeads * G.KeyWidth) + 3]);
            Assert.Single(read, one => !float.IsFinite(one));
            sequence.Dispose();
        }
    }

    private static KvCache Cache(PageFormat format)
    {
        KvCacheOptions config = TestCaches.Config(format);
        (config.NonFinite, config.FullPrecision) = (NonFinitePolicy.Keep, format);
        return TestCaches.Simd(G, config);
    }

    private static (float[] Keys, float[] Values) Content(int layer, int element, float number)
    {
        int[] ids = [.. Enumerable.Range(1, 11)];
        float[] values = TokenContent.Values(G, layer, ids);
        values[(5 * G.KvHeads * G.ValueWidth) + element] = number;
        return (TokenContent.Keys(G, layer, ids), values);
    }

    private static KvSequence Fed(KvCache cache, int element, float number, bool isKey = false)
    {
        KvSequence sequence = cache.CreateSequence();
        using KvStep step = sequence.Begin([.. Enumerable.Range(1, 11)]);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            (float[] keys, float[] values) = Content(layer, element, number);
            if (isKey)
            {
                int at = Array.FindIndex(values, one => !float.IsFinite(one));
                (keys[at], values[at]) = (number, 1);
            }

            step.Append(layer, keys, values);
        }

        step.Commit();
        return sequence;
    }
}
