using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Mean square norms that sealing leaves in a page's scores.</summary>
public abstract partial class PageConformance<TTier>
{
    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.F16, PageFormat.F16, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.BF16, PageFormat.BF16, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T4, PageFormat.V4, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T3, PageFormat.V3, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.I8, PageFormat.I8)]
    public void A_page_written_from_leaves_its_square_norms(PageFormat key, PageFormat value, PageFormat toKey, PageFormat toValue)
    {
        foreach ((int keyWidth, int valueWidth, int pageTokens) in new[] { (64, 128, 16), (80, 48, 5), (8, 24, 7) })
        {
            var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
            KernelShape shape = Shapes.Classes(geometry, FormatPairs.OpenFor((key, value), 1), [(key, value), (toKey, toValue)]);
            using var harness = new TierHarness(TTier.Create, shape, 40);
            HarnessSequence sequence = harness.Add(new SequenceData(geometry, 3 * pageTokens, 97));
            harness.Begin((sequence, 3 * pageTokens));
            harness.Append(0);
            Assert.Null(harness.End());
            DecodedPage open = harness.Decode(sequence.Rows[0, 1][1].Slot, KernelShape.Open, pageTokens);
            harness.Seal(sequence);
            Near(open, harness.ReadScores(sequence, 0, 1, 1));
            Assert.Equal(default, harness.ReadScores(sequence, 0, 1, 2));

            // A demotion writes the squares of the page that it reads, over the tokens that it moves.
            PageEntry source = sequence.Rows[0, 1][1];
            long word = harness.ScoreWord(sequence, 0, 1, 3);
            harness.Tier.Load(word, new int[TableMap.ScoreWords]);
            int[] targets = [harness.TakeSlot(), harness.TakeSlot()];
            harness.Tier.Transcode(
            [
                new PageMove(source.Slot, KernelShape.Sealed, targets[0], 2, pageTokens),
                new PageMove(source.Slot, KernelShape.Sealed, targets[1], 2, pageTokens - 2, word),
            ]);
            harness.Tier.Synchronize();
            Near(harness.Decode(source.Slot, KernelShape.Sealed, pageTokens - 2), harness.ReadScores(sequence, 0, 1, 3));
            Near(open, harness.ReadScores(sequence, 0, 1, 1));
        }
    }

    [Theory]
    [InlineData(PageFormat.FP8)]
    [InlineData(PageFormat.Q8)]
    [InlineData(PageFormat.Q4)]
    public void A_page_of_an_exchange_format_leaves_its_square_norms_when_it_is_reopened(PageFormat format)
    {
        var geometry = new KvGeometry(1, 1, 1, 64, 32, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, format, format), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 10, 98));
        harness.Fill(sequence, 10);
        int slot = sequence.Rows[0, 0][0].Slot;
        long word = harness.ScoreWord(sequence, 0, 0, 2);
        harness.Tier.Load(word, new int[TableMap.ScoreWords]);
        harness.Tier.Transcode([new PageMove(slot, KernelShape.Sealed, harness.TakeSlot(), KernelShape.Open, 3, word)]);
        harness.Tier.Synchronize();
        Near(harness.Decode(slot, KernelShape.Sealed, 3), harness.ReadScores(sequence, 0, 0, 2));
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.BF16)]
    public void A_page_sealed_where_it_lies_leaves_its_square_norms(PageFormat format)
    {
        var geometry = new KvGeometry(1, 2, 2, 48, 80, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 10, 99));
        harness.Fill(sequence, 10);
        Near(harness.Decode(sequence.Rows[0, 1][0].Slot, KernelShape.Sealed, 5), harness.ReadScores(sequence, 0, 1, 0));
    }

    [Theory]
    [InlineData(PageFormat.F32, 4e31f, 2e25f)]
    [InlineData(PageFormat.F32, float.MaxValue, 7e19f)]
    [InlineData(PageFormat.BF16, 3.3e38f, 8e35f)]
    public void Squares_beyond_binary32_count_as_its_largest_number_and_digests_stay_numbers(PageFormat format, float keySize, float valueSize)
    {
        var geometry = new KvGeometry(1, 1, 1, 48, 80, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 40);
        var data = new SequenceData(geometry, 10, 100);
        data.Keys[0] = [.. data.Keys[0].Select((_, i) => i % 7 < 3 ? -keySize : keySize)];
        data.Values[0] = [.. data.Values[0].Select((_, i) => i % 3 == 0 ? -valueSize : valueSize)];
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 10);
        PageScores scores = harness.ReadScores(sequence, 0, 0, 0);
        Assert.Equal((float.MaxValue, float.MaxValue), (scores.KeySquare, scores.ValueSquare));
        PartCodes keys = harness.Decode(sequence.Rows[0, 0][0].Slot, KernelShape.Sealed, 5).KeyCodes;
        Assert.All(keys.Mean.Concat(keys.Deviation), x => Assert.True(Half.IsFinite(x)));
    }

    private static void Near(DecodedPage page, PageScores got)
    {
        double keys = page.Keys.Average(k => k.Sum(x => x * x));
        double values = page.Values.Average(v => v.Sum(x => x * x));
        Assert.InRange(got.KeySquare, keys * (1 - 1e-4), keys * (1 + 1e-4));
        Assert.InRange(got.ValueSquare, values * (1 - 1e-4), values * (1 + 1e-4));
        Assert.Equal(default, got with { KeySquare = 0, ValueSquare = 0 });
    }
}
