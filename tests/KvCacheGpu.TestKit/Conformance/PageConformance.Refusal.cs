using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Elements that a format cannot hold are refused by name; elements that it can hold are not.</summary>
public abstract partial class PageConformance<TTier>
{
    [Theory]
    [InlineData(PageFormat.F32, float.NaN)]
    [InlineData(PageFormat.F32, float.PositiveInfinity)]
    [InlineData(PageFormat.F32, float.NegativeInfinity)]
    [InlineData(PageFormat.F16, float.NaN)]
    [InlineData(PageFormat.F16, float.NegativeInfinity)]
    [InlineData(PageFormat.F16, 65520f)]
    [InlineData(PageFormat.F16, -1e30f)]
    [InlineData(PageFormat.BF16, float.NaN)]
    [InlineData(PageFormat.BF16, float.PositiveInfinity)]
    [InlineData(PageFormat.BF16, 3.4e38f)]
    public void An_element_that_is_not_finite_once_stored_is_named(PageFormat format, float bad)
    {
        using TierHarness harness = Harness(format, out HarnessSequence sequence);
        foreach ((int token, int head, int element, bool isValue) in new[] { (0, 0, 0, false), (6, 1, 47, false), (3, 2, 40, true), (6, 2, 79, true) })
        {
            (float[] keys, float[] values) = Ordinary(7);
            (isValue ? values : keys)[(((token * 3) + head) * (isValue ? 80 : 48)) + element] = bad;
            harness.Begin((sequence, 7));
            harness.Append(1, keys, values);
            Assert.Equal(new NonFinite(1, token, head, isValue), harness.End());
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, float.MaxValue)]
    [InlineData(PageFormat.F16, 65519.996f)]
    [InlineData(PageFormat.F16, -65504f)]
    [InlineData(PageFormat.BF16, 3.39e38f)]
    [InlineData(PageFormat.BF16, 65520f)]
    [InlineData(PageFormat.F32, float.Epsilon)]
    public void The_largest_that_a_format_holds_is_taken(PageFormat format, float edge)
    {
        using TierHarness harness = Harness(format, out HarnessSequence sequence);
        (float[] keys, float[] values) = Ordinary(2);
        (keys[50], values[100]) = (edge, -edge);
        harness.Begin((sequence, 2));
        harness.Append(0, keys, values);
        Assert.Null(harness.End());
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.BF16)]
    public void What_the_sealed_format_cannot_hold_is_refused_while_it_is_open(PageFormat open)
    {
        using TierHarness harness = Harness(open, out HarnessSequence sequence, PageFormat.I8);
        (float[] keys, float[] values) = Ordinary(2);
        values[100] = -65536f;
        harness.Begin((sequence, 2));
        harness.Append(0, keys, values);
        Assert.Equal(new NonFinite(0, 0, 1, true), harness.End());
    }

    [Fact]
    public void Of_several_the_first_is_named_by_layer_then_token_then_head_then_key_before_value()
    {
        using TierHarness harness = Harness(PageFormat.F16, out HarnessSequence sequence);
        var all = new[] { (0, 5, 2, true), (0, 5, 2, false), (1, 0, 0, false), (0, 6, 0, false), (0, 5, 1, true), (0, 4, 2, true), (0, 4, 2, false) };
        for (int count = 1; count <= all.Length; count++)
        {
            var bad = all.Take(count).ToArray();
            harness.Begin((sequence, 7));
            for (int layer = 0; layer < 2; layer++)
            {
                (float[] keys, float[] values) = Ordinary(7);
                foreach ((_, int token, int head, bool isValue) in bad.Where(b => b.Item1 == layer))
                {
                    (isValue ? values : keys)[(((token * 3) + head) * (isValue ? 80 : 48)) + (token * 3)] = float.NaN;
                }

                harness.Append(layer, keys, values);
            }

            (int l, int t, int h, bool v) = bad.Min();
            Assert.Equal(new NonFinite(l, t, h, v), harness.End());
        }
    }

    [Fact]
    public void The_token_named_counts_over_the_whole_launch()
    {
        using TierHarness harness = Harness(PageFormat.BF16, out HarnessSequence first);
        HarnessSequence second = harness.Add(first.Data);
        (float[] keys, float[] values) = Ordinary(7);
        keys[((6 * 3) + 1) * 48] = float.NaN;
        harness.Begin((first, 4), (second, 3));
        harness.Append(0, keys, values);
        Assert.Equal(new NonFinite(0, 6, 1, false), harness.End());
    }

    [Fact]
    public void A_refusal_is_forgotten_with_the_next_step()
    {
        using TierHarness harness = Harness(PageFormat.F32, out HarnessSequence sequence);
        (float[] keys, float[] values) = Ordinary(3);
        values[5] = float.NaN;
        harness.Begin((sequence, 3));
        harness.Append(0, keys, values);
        harness.Begin((sequence, 3));
        harness.Append(0, Ordinary(3).Keys, Ordinary(3).Values);
        Assert.Null(harness.End());
    }

    [Fact]
    public void An_infinite_half_is_named()
    {
        using TierHarness harness = Harness(PageFormat.F32, out HarnessSequence sequence);
        (float[] keys, float[] values) = Ordinary(2);
        values[(3 * 80) + 79] = float.NegativeInfinity;
        harness.Begin((sequence, 2));
        harness.Append(0, KvTensor.FromHost(Strided.Halves(keys)), KvTensor.FromHost(Strided.Halves(values)));
        Assert.Equal(new NonFinite(0, 1, 0, true), harness.End());
    }

    private static TierHarness Harness(PageFormat format, out HarnessSequence sequence, PageFormat? sealedFormat = null)
    {
        var geometry = new KvGeometry(2, 3, 3, 48, 80, pageTokens: 5);
        var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, format, sealedFormat ?? format, sealedFormat ?? format), 150);
        sequence = harness.Add(new SequenceData(geometry, 1, 1));
        return harness;
    }

    private static (float[] Keys, float[] Values) Ordinary(int tokens)
    {
        var data = new SequenceData(new KvGeometry(1, 3, 3, 48, 80), tokens, 99);
        return (data.Keys[0], data.Values[0]);
    }
}
