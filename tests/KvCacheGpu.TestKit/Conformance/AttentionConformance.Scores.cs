using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>The scores by which pages are ranked: masses with decay, uses, the attention of a prompt's last queries.</summary>
public abstract partial class AttentionConformance<TTier>
{
    [Theory]
    [InlineData(0, 0.9f, null)]
    [InlineData(0, 1f, null)]
    [InlineData(7, 0.5f, null)]
    [InlineData(7, 0.5f, 4f)]
    [InlineData(0, 0.9f, 1f)]
    public void Scores_follow_what_each_steps_last_queries_attended_to(int window, float decay, float? cap)
    {
        KvGeometry geometry = new(2, 6, 2, 64, 48, pageTokens: 5) { AttentionScale = cap is null ? 0.125f : 0.2f, LogitSoftCap = cap };
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 300);
        HarnessSequence[] sequences = [.. new[] { 40, 40 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 60 + i)))];
        var steps = new ScoredSteps(harness, decay);
        steps.Run([0, 1], window, 0, (sequences[0], 17), (sequences[1], 3));
        steps.Run([0, 1], window, 0, (sequences[0], 1), (sequences[1], 1));

        // A layer that is not attended to, and a sequence that does not step, keep their scores.
        steps.Run([1], window, 0, (sequences[1], 9));
        steps.Run([0], window, 0, (sequences[0], 1), (sequences[1], 1));
        steps.Run([0, 1], window, 0, (sequences[0], 6), (sequences[1], 2));
    }

    [Fact]
    public void Scores_and_statistics_stay_in_their_place_when_pages_are_dropped()
    {
        var geometry = new KvGeometry(1, 4, 2, 48, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.BF16), 200);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 50, 62));
        var steps = new ScoredSteps(harness, 0.8f);
        steps.Run([0], 0, 4, (sequence, 33));
        List<PageEntry> before = [.. sequence.Rows[0, 1]];
        PageStatistic[][] statistics = harness.ReadStatistics(sequence, 0, 1);
        harness.Drop(sequence, 1);
        harness.Drop(sequence, 4);
        int[] left = [.. sequence.Rows[0, 1].Select(page => before.FindIndex(old => old.PageIndex == page.PageIndex))];
        Assert.Equal(statistics.Select(s => left.Select(i => s[i]).ToArray()), harness.ReadStatistics(sequence, 0, 1));
        steps.Run([0], 0, 0, (sequence, 1));
        harness.Drop(sequence, 0);
        steps.Run([0], 0, 3, (sequence, 8));
        steps.Run([0], 0, 1, (sequence, 1));
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32, 1, 0, null)]
    [InlineData(PageFormat.F16, PageFormat.F16, 4, 0, null)]
    [InlineData(PageFormat.BF16, PageFormat.BF16, 9, 6, null)]
    [InlineData(PageFormat.I8, PageFormat.I8, 64, 0, null)]
    [InlineData(PageFormat.T4, PageFormat.V4, 4, 0, null)]
    [InlineData(PageFormat.T3, PageFormat.V3, 3, 11, null)]
    [InlineData(PageFormat.T2, PageFormat.V2, 5, 0, null)]
    [InlineData(PageFormat.FP8, PageFormat.FP8, 4, 0, null)]
    [InlineData(PageFormat.Q8, PageFormat.Q8, 4, 9, null)]
    [InlineData(PageFormat.Q4, PageFormat.Q4, 2, 0, null)]
    [InlineData(PageFormat.I8, PageFormat.V4, 4, 0, null)]
    [InlineData(PageFormat.F32, PageFormat.F32, 3, 0, 5f)]
    [InlineData(PageFormat.I8, PageFormat.I8, 9, 6, 0.8f)]
    [InlineData(PageFormat.T4, PageFormat.V4, 4, 0, 40f)]
    [InlineData(PageFormat.T3, PageFormat.V3, 4, 11, 2f)]
    [InlineData(PageFormat.Q4, PageFormat.Q4, 2, 0, 3f)]
    public void Observing_adds_the_masses_of_the_last_queries(PageFormat key, PageFormat value, int last, int window, float? cap)
    {
        KvGeometry geometry = new(1, 6, 2, 64, 32, pageTokens: 6) { AttentionScale = cap is null ? 0.125f : 0.09f, LogitSoftCap = cap };
        KernelShape shape = Shapes.Mixed(geometry, FormatPairs.OpenFor((key, value), last), key, value);
        using var harness = new TierHarness(TTier.Create, shape, 200);
        HarnessSequence[] sequences = [.. new[] { 50, 50 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 63 + i)))];
        var steps = new ScoredSteps(harness, 1f);
        steps.Run([0], window, last, (sequences[0], 13), (sequences[1], 23));
        steps.Run([0], window, last, (sequences[0], 1), (sequences[1], 8));
        steps.Run([0], window, last, (sequences[0], 21), (sequences[1], 1));
    }

    [Fact]
    public void Of_a_long_prompt_the_last_tokens_are_observed()
    {
        var geometry = new KvGeometry(1, 1, 1, 8, pageTokens: 64);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F32), 80);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 2300, 65));
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 220);
        sequence.Rows[0, 0].ForEach(page => harness.Tier.Load(harness.ScoreWord(sequence, 0, 0, page.PageIndex), new int[TableMap.ScoreWords]));
        new ScoredSteps(harness, 1f).Run([0], 0, KernelBatch.MaxObserved, (sequence, 80));
    }

    [Fact]
    public void Only_what_was_attended_to_last_is_observed_and_no_more_than_is_kept()
    {
        var geometry = new KvGeometry(2, 2, 1, 32, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 9, 66));
        harness.Begin((sequence, 8));
        harness.Append(0);
        harness.Append(1);
        Assert.Throws<InvalidOperationException>(() => harness.Observe(0, 1));
        harness.Attend(0);
        Assert.Throws<InvalidOperationException>(() => harness.Observe(1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => harness.Observe(0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => harness.Observe(0, KernelBatch.MaxObserved + 1));
        harness.Observe(0, 1);
        harness.End();
        harness.Begin((sequence, 1));
        harness.Append(0);
        Assert.Throws<InvalidOperationException>(() => harness.Observe(0, 1));
    }

    [Fact]
    public void Pages_begin_without_scores_and_a_sequence_slot_is_cleared_alone()
    {
        var geometry = new KvGeometry(2, 2, 2, 32, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 100);
        HarnessSequence[] sequences = [.. new[] { 20, 20 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 67 + i)))];
        harness.Begin((sequences[0], 12), (sequences[1], 7));
        harness.Append(0);
        harness.Append(1);
        Assert.All(sequences[0].LayerHeads, row => Assert.Equal(default, harness.ReadScores(sequences[0], row.Layer, row.Head, 2)));
        harness.Attend(0);
        harness.Attend(1);
        harness.Score(1f, 3);
        harness.End();
        PageScores kept = harness.ReadScores(sequences[0], 1, 1, 2);
        Assert.True(kept.Last > 0);
        harness.Tier.ClearScores(1);
        Assert.Equal(kept, harness.ReadScores(sequences[0], 1, 1, 2));
        Assert.All(sequences[1].LayerHeads, row => Assert.Equal(default, harness.ReadScores(sequences[1], row.Layer, row.Head, 1)));
    }

    [Fact]
    public void A_sequence_has_no_more_pages_than_its_rows_have_room_for()
    {
        var geometry = new KvGeometry(1, 2, 1, 32, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16, capacity: 4), 100);
        using KernelBatch batch = harness.Tier.CreateBatch(1, 1);
        Assert.ThrowsAny<ArgumentException>(() => batch.Begin([new RaggedSequence(0, 0, 1, 21)]));
    }

    [Fact]
    public void Scoring_takes_no_memory()
    {
        var geometry = new KvGeometry(2, 4, 2, 32, pageTokens: 16);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 300);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 500, 69));
        harness.Fill(sequence, 499);
        harness.Begin((sequence, 1));
        harness.Append(0);
        harness.Append(1);
        harness.Attend(0);
        harness.Attend(1);
        harness.Score(1f, 1);
        long scratch = harness.ScratchBytes;
        long managed = Allocations.Of(() => harness.Score(1f, 2));
        Assert.Equal(scratch, harness.ScratchBytes);

        // ILGPU's launchers allocate a little with each launch.
        Assert.InRange(managed, 0, harness.Tier is PortableTier ? 4096 : 0);
    }
}
