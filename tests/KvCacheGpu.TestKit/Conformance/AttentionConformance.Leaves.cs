using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Tables whose leaves lie anywhere among the pages, are opened late, moved, and closed. A leaf has four entries here.</summary>
public abstract unsafe partial class AttentionConformance<TTier>
{
    private static readonly KvGeometry Leafy = new(2, 4, 2, 32, 24, pageTokens: 5);

    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16, 0)]
    [InlineData(PageFormat.I8, PageFormat.V4, 0)]
    [InlineData(PageFormat.T4, PageFormat.V4, 33)]
    public void Rows_reach_over_leaves_that_lie_anywhere_and_move_between_steps(PageFormat key, PageFormat value, int window)
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(Leafy, PageFormat.F16, key, value), 400);
        Assert.Equal(4, harness.Tier.Map.LeafPages);
        HarnessSequence[] sequences = [.. new[] { 150, 150 }.Select((tokens, i) => harness.Add(new SequenceData(Leafy, tokens, 90 + i)))];
        var steps = new ScoredSteps(harness, 0.9f);

        // The first step begins and ends inside of leaves, the second crosses into a fresh one.
        Step((sequences[0], 71), (sequences[1], 20));
        Step((sequences[0], 10), (sequences[1], 1));
        harness.MoveLeaf(sequences[0], 3);
        harness.MoveLeaf(sequences[0], 0);
        Step((sequences[0], 1), (sequences[1], 33));

        // Entries move up, so that most lie in another leaf than their page's scores.
        Array.ForEach([1, 2, 3, 4, 6], page => harness.Drop(sequences[0], page));
        harness.MoveLeaf(sequences[1], 2);
        Step((sequences[0], 1), (sequences[1], 1));
        harness.MoveLeaf(sequences[0], 1);
        Step((sequences[0], 26), (sequences[1], 3));

        void Step(params (HarnessSequence Sequence, int Tokens)[] parts)
        {
            steps.Run([0, 1], window, 2, parts);
            harness.BeginRead(false, parts);
            for (int layer = 0; layer < Leafy.Layers; layer++)
            {
                Expect.MatchesOracle(harness, layer, harness.Queries(layer), harness.Attend(layer, window), Expect.Bound, window, sequences);
            }

            harness.End();
        }
    }

    [Fact]
    public void Rows_that_are_split_cross_leaves_in_every_part()
    {
        // 132 pages: two parts on the host, and the second begins inside of a leaf.
        var geometry = new KvGeometry(1, 1, 1, 8, pageTokens: 16);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F32, sequences: 1, capacity: 134), 260);
        Assert.Equal(4, harness.Tier.Map.LeafPages);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 2120, 92));
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 112);
        for (int leaf = 0; leaf < sequence.Leaves.Count; leaf += 3)
        {
            harness.MoveLeaf(sequence, leaf);
        }

        foreach (int tokens in new[] { 1, 4, 1 })
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
            harness.End();
            harness.Seal(sequence);
        }
    }

    [Fact]
    public void A_sequence_slot_begins_anew_with_fewer_leaves()
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(Leafy, PageFormat.F16, sequences: 2), 300);
        HarnessSequence first = harness.Add(new SequenceData(Leafy, 100, 93));
        HarnessSequence other = harness.Add(new SequenceData(Leafy, 60, 94));
        var steps = new ScoredSteps(harness, 0.9f);
        steps.Run([0, 1], 0, 0, (first, 93), (other, 41));
        steps.Run([0, 1], 0, 2, (first, 1), (other, 1));
        Assert.Equal(5, first.Leaves.Count);
        harness.Remove(first);

        HarnessSequence second = harness.Add(new SequenceData(Leafy, 60, 95));
        Assert.Equal(0, second.Slot);
        steps.Run([0, 1], 0, 0, (second, 7), (other, 1));
        Assert.Single(second.Leaves);
        steps.Run([0, 1], 0, 3, (second, 40), (other, 1));
        harness.BeginRead(false, (second, 40), (other, 1));
        Expect.MatchesOracle(harness, 1, harness.Queries(1), harness.Attend(1), second, other);
        harness.End();

        // What is cleared is this sequence's, in all leaves that it has now.
        PageScores kept = harness.ReadScores(other, 1, 1, 0);
        harness.Tier.ClearScores(second.Slot);
        Assert.All(second.LayerHeads, row => Assert.Equal(default, harness.ReadScores(second, row.Layer, row.Head, second.Rows[row.Layer, row.Head][^1].PageIndex)));
        Assert.Equal(kept, harness.ReadScores(other, 1, 1, 0));
    }

    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16, 0)]
    [InlineData(PageFormat.T4, PageFormat.V4, 0)]
    [InlineData(PageFormat.I8, PageFormat.I8, 12)]
    public void Tables_without_statistics_hold_slots_and_tags_alone(PageFormat key, PageFormat value, int window)
    {
        KernelShape shape = Shapes.Mixed(Leafy, PageFormat.F16, key, value) with { HasStatistics = false };
        using var harness = new TierHarness(TTier.Create, shape, 300);
        HarnessSequence[] sequences = [.. new[] { 90, 90 }.Select((tokens, i) => harness.Add(new SequenceData(Leafy, tokens, 96 + i)))];
        foreach ((int first, int second) in new[] { (43, 9), (1, 1), (6, 31), (1, 1) })
        {
            harness.Begin((sequences[0], first), (sequences[1], second));
            for (int layer = 0; layer < Leafy.Layers; layer++)
            {
                harness.Append(layer);
                Expect.MatchesOracle(harness, layer, harness.Queries(layer), harness.Attend(layer, window), Expect.Bound, window, sequences);
            }

            Assert.Throws<InvalidOperationException>(() => harness.Observe(1, 1));
            Assert.Throws<InvalidOperationException>(() => harness.Score(1f, 1));
            harness.End();
            Array.ForEach(sequences, harness.Seal);
            harness.Tier.ClearScores(0);
            harness.MoveLeaf(sequences[0], 1);
            Array.ForEach(sequences, sequence => Assert.All(sequence.Leaves, AssertUntouched));
        }

        Assert.Equal(harness.Tier.Map.TableWords, harness.Tier.Map.LogSumExp);
        Assert.All(harness.ReadMeasures(), word => Assert.Equal(-1, word));

        // Behind its slots and tags the slot of a leaf is as the pool filled it.
        void AssertUntouched(int slot)
        {
            int tables = harness.Tier.Map.LeafTableWords;
            var words = new int[(SlotPool.Units(shape) * PageLayout.UnitWords) - tables];
            harness.Tier.Read(((long)slot * PageLayout.UnitWords) + tables, words);
            Assert.All(words, word => Assert.Equal(-1, word));
        }
    }

    [Fact]
    public void A_leaf_is_written_only_while_it_is_open_and_opened_only_where_there_is_room()
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(Leafy, PageFormat.F16, sequences: 2, capacity: 9), 10);
        KernelTier tier = harness.Tier;
        (int slot, int other) = (harness.TakeSlot(), harness.TakeSlot());
        Assert.Equal(3, tier.Map.Leaves);
        Assert.Throws<InvalidOperationException>(() => tier.WriteEntry(0, 0, 0, slot, 0));
        Assert.Throws<InvalidOperationException>(() => tier.CloseLeaf(0, 0));
        Assert.Throws<InvalidOperationException>(() => tier.LeafWord(0, 0));
        int* words = tier.OpenLeaf(0, 0, slot);
        Assert.Throws<InvalidOperationException>(() => Open(0, 0, other));
        Assert.Throws<InvalidOperationException>(() => tier.WriteEntry(0, 0, 4, other, 0));
        Assert.ThrowsAny<ArgumentException>(() => tier.WriteEntry(0, 0, 12, other, 0));
        Assert.ThrowsAny<ArgumentException>(() => Open(2, 0, other));
        Assert.ThrowsAny<ArgumentException>(() => Open(0, 3, other));
        Assert.ThrowsAny<ArgumentException>(() => Open(0, 1, 0));
        Assert.ThrowsAny<ArgumentException>(() => Open(0, 1, (int)(tier.ArenaBytes / PageLayout.UnitBytes) - tier.Map.LeafUnits + 1));

        // What the host reads is what it wrote, before any launch.
        tier.WriteEntry(0, 3, 2, other, 77);
        Assert.Equal((other, 77), (words[tier.Map.SlotInLeaf(3, 2)], words[tier.Map.SlotInLeaf(3, 2) + tier.Map.LeafTags]));
        tier.CloseLeaf(0, 0);
        Assert.Throws<InvalidOperationException>(() => tier.WriteEntry(0, 0, 0, slot, 0));

        void Open(int sequence, int leaf, int at) => tier.OpenLeaf(sequence, leaf, at);
    }
}
