using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Layers with formats of their own, and rows with pages in several formats.</summary>
public abstract partial class AttentionConformance<TTier>
{
    [Fact]
    public void Each_layer_is_attended_in_its_own_formats()
    {
        var geometry = new KvGeometry(5, 6, 2, 64, 96, pageTokens: 5);
        (PageFormat, PageFormat)[] pairs =
        [
            (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.F16, PageFormat.F16), (PageFormat.T2, PageFormat.V2),
            (PageFormat.FP8, PageFormat.FP8), (PageFormat.Q4, PageFormat.Q4),
        ];
        int[] layers = [1 << 1, (1 << 2) | (1 << 4), 1 << 3, (1 << 5) | 1, 1 << 6];
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F16, pairs, layerClasses: layers), 200);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 33, 15));
        harness.Fill(sequence, 29);
        harness.Begin((sequence, 4));
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            Assert.Contains(sequence.Rows[layer, 0], e => e.PageClass == harness.SealedClass(layer));
            harness.Append(layer);
            Expect.MatchesOracle(harness, layer, harness.Queries(layer), harness.Attend(layer), sequence);
        }
    }

    [Fact]
    public void A_row_of_pages_in_many_formats_is_attended_as_one()
    {
        var geometry = new KvGeometry(1, 4, 1, 128, 64, pageTokens: 5);
        (PageFormat Key, PageFormat Value)[] pairs = [.. FormatPairs.Natural.Where(p => p.Key is not (PageFormat.F16 or PageFormat.BF16)), (PageFormat.I8, PageFormat.V2)];
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F32, pairs), 60);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 73, 16));
        harness.Begin((sequence, 68));
        harness.Append(0);
        harness.End();
        for (int page = 0; page < 12; page++)
        {
            // Two pages stay open between the others.
            if (page is not (9 or 10))
            {
                harness.Demote(sequence, 0, 0, page, 1 + (page * 7 % pairs.Length));
            }
        }

        Assert.Equal(pairs.Length + 1, sequence.Rows[0, 0].Select(e => e.PageClass).Distinct().Count());
        harness.Begin((sequence, 5));
        harness.Append(0);
        Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
    }

    [Theory]
    [InlineData(PageFormat.T4, PageFormat.V4, 7)]
    [InlineData(PageFormat.T3, PageFormat.V3, 12)]
    [InlineData(PageFormat.T2, PageFormat.V2, int.MaxValue)]
    [InlineData(PageFormat.Q8, PageFormat.Q8, 7)]
    [InlineData(PageFormat.FP8, PageFormat.FP8, 1)]
    public void A_window_over_encoded_pages_hides_what_lies_before_it(PageFormat key, PageFormat value, int window)
    {
        var geometry = new KvGeometry(1, 6, 2, 64, 96, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, key, value), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 44, 17));
        harness.Fill(sequence, 30);
        foreach (int tokens in new[] { 1, 12, 1 })
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0, window), Expect.Bound, window, sequence);
            harness.Seal(sequence);
        }
    }

    [Fact]
    public void Kept_pages_are_attended_where_they_lie()
    {
        var geometry = new KvGeometry(1, 2, 1, 64, pageTokens: 5);
        using var harness = new TierHarness(
            TTier.Create, Shapes.Mixed(geometry, PageFormat.F32, PageFormat.T4, PageFormat.V4, keepsNonFinite: true), 40);
        var data = new SequenceData(geometry, 24, 18);
        data.Values[0][(6 * 64) + 5] = 1e6f;
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 22);
        Assert.Equal([1, 3, 4], sequence.Rows[0, 0].Where(e => e.PageClass == KernelShape.Open).Select(e => e.PageIndex));
        harness.Begin((sequence, 2));
        harness.Append(0);
        Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
    }
}
