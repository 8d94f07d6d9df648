namespace KvCacheGpu.Tests;

/// <summary>What is refused in one part is refused in all, and leaves no trace in any.</summary>
public sealed class GroupErrorTests
{
    public static TheoryData<string, KvPart[]> WrongParts => new()
    {
        { "none", [] },
        { "a head is missing", [new("cpu", 0, 4, new(0, 3))] },
        { "a layer is missing", [new("cpu", 1, 3, new(0, 4))] },
        { "a row twice", [new("cpu", 0, 4, new(0, 4)), new("cpu", 2, 1, new(1, 1))] },
        { "beyond the layers", [new("cpu", 0, 5, new(0, 4))] },
        { "beyond the heads", [new("cpu", 0, 4, new(0, 5))] },
        { "no layers", [new("cpu", 0, 4, new(0, 4)), new("cpu", 0, 0, new(0, 4))] },
        { "no device", [new(" ", 0, 4, new(0, 4))] },
    };

    [Theory]
    [MemberData(nameof(WrongParts))]
    public void Parts_that_do_not_tile_the_model_are_refused(string what, KvPart[] parts)
    {
        KvConfigurationException e = Assert.Throws<KvConfigurationException>(() => new KvCacheGroup(TestGroups.Model, TestCaches.Config(), parts));
        Assert.True(e.Code == "E003", what);
    }

    [Fact]
    public void Helpers_refuse_more_devices_than_there_is_to_share()
    {
        Assert.Throws<KvConfigurationException>(() => KvPart.ByHeads(TestGroups.Model, "cpu", "cpu", "cpu", "cpu", "cpu"));
        Assert.Throws<KvConfigurationException>(() => KvPart.ByLayers(TestGroups.Model));
        Assert.Throws<KvConfigurationException>(() => KvPart.ByLayersAndHeads(TestGroups.Model, 2, "cpu", "cpu", "cpu"));
        Assert.Equal([(0, 2), (2, 1), (3, 1)], KvPart.ByHeads(TestGroups.Model, "cpu", "cpu", "cpu").Select(part => (part.Heads.Start, part.Heads.Count)));
    }

    [Fact]
    public void A_budget_is_divided_by_rows_and_one_that_is_too_small_names_the_least()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8);
        options.MemoryBudgetBytes = 10_000;
        KvConfigurationException e = Assert.Throws<KvConfigurationException>(() => TestGroups.Make("uneven", options));
        Assert.StartsWith("parts[", e.Setting, StringComparison.Ordinal);
        while (e is not null)
        {
            Assert.True(e.Needed > options.MemoryBudgetBytes);
            options.MemoryBudgetBytes = e.Needed;
            try
            {
                TestGroups.Make("uneven", options).Dispose();
                break;
            }
            catch (KvConfigurationException next)
            {
                // Another part wants more.
                e = next;
            }
        }

        using KvCacheGroup group = TestGroups.Make("uneven", options);
        Assert.True(group.BudgetBytes <= options.MemoryBudgetBytes);
        Assert.Equal([9, 4, 3], group.Parts.Select(part => (int)Math.Round(16.0 * part.BudgetBytes / group.BudgetBytes)));
        Assert.True(group.AllocatedBytes <= group.BudgetBytes);
    }

    [Fact]
    public void A_part_without_room_keeps_the_step_from_beginning_in_any()
    {
        KvCacheOptions options = TestCaches.Config(maxTokens: 64, maxSequences: 3);
        using KvCacheGroup group = TestGroups.Make("2 shards", options);
        using KvGroupSequence sequence = group.CreateSequence();
        _ = sequence.Feed(1, 2, 3);

        // All pages of the second part are taken.
        using KvSequence hog = group.Caches[1].CreateSequence();
        hog.FeedMany(0, 60);
        long[] bytes = [.. group.Parts.Select(part => part.AllocatedBytes)];
        int[] ids = [.. Enumerable.Range(0, 32)];
        KvOutOfMemoryException e = Assert.Throws<KvOutOfMemoryException>(() => sequence.Begin(ids));
        Assert.Contains("part 1 (cpu)", e.Message, StringComparison.Ordinal);
        Assert.False(group.TryBegin([sequence], ids, [ids.Length], out KvGroupStep? none, out KvShortage? shortage));
        Assert.Null(none);
        Assert.True(shortage!.Value.Missing > 0);
        Assert.Equal(bytes, group.Parts.Select(part => part.AllocatedBytes));
        _ = sequence.Feed(4);
        Assert.Equal(4, sequence.Length);
    }

    [Fact]
    public void A_part_without_room_makes_the_policy_free_pages_of_the_whole_model()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 256, maxSequences: 2);
        options.MaxSequenceTokens = 2048;
        options.Policy = new LruPolicy { SinkTokens = 2, WindowTokens = 6 };
        options.MemoryBudgetBytes = KvCache.BytesFor(TestGroups.Model, options).MinimumBytes * 2;
        options.Watermark = 1;
        options.PlanEvery = 1_000_000;
        using KvCacheGroup group = TestGroups.Make("uneven", options);
        using KvGroupSequence idle = group.CreateSequence();
        using KvGroupSequence sequence = group.CreateSequence();
        _ = idle.Feed([.. Enumerable.Range(0, 24)]);
        for (int id = 0; id < 1500; id++)
        {
            _ = sequence.Feed(id);
        }

        Assert.True(sequence.EvictedTokens > 0);
        int[] resident = [.. Enumerable.Range(0, 16).Select(row => sequence.ResidentTokens(row / 4, row % 4))];
        Assert.True(resident.Max() - resident.Min() <= 2 * 4, string.Join(' ', resident));
    }

    [Theory]
    [InlineData("2 shards", 0)]
    [InlineData("2 shards", 1)]
    [InlineData("2 x 2", 3)]
    public void A_part_that_refuses_its_numbers_rolls_the_step_back_in_every_part(string tiling, int bad)
    {
        using KvCacheGroup group = TestGroups.Make(tiling, TestCaches.Config(PageFormat.I8));
        using KvGroupSequence sequence = group.CreateSequence();
        _ = sequence.Feed([.. Enumerable.Range(0, 11)]);
        int[][] before = TestGroups.Bytes(sequence);
        long[] bytes = [.. group.Parts.Select(part => part.AllocatedBytes)];
        using (KvGroupStep step = sequence.Begin([50, 51]))
        {
            for (int part = 0; part < group.Parts.Count; part++)
            {
                KvPart own = group.Parts[part].Part;
                for (int layer = own.FirstLayer; layer < own.FirstLayer + own.Layers; layer++)
                {
                    float[] keys = TestGroups.Keys(group, part, layer, [50, 51]);
                    if (part == bad && layer == own.FirstLayer + 1)
                    {
                        keys[^1] = float.NaN;
                    }

                    step.Append(part, layer, keys, TestGroups.Values(group, part, layer, [50, 51]));
                }
            }

            KvNonFiniteException e = Assert.Throws<KvNonFiniteException>(step.Commit);
            KvPart refused = group.Parts[bad].Part;
            Assert.Equal((refused.FirstLayer + 1, 1, refused.Heads.Start + refused.Heads.Count - 1), (e.Layer, e.Token, e.Head));
            Assert.Throws<ObjectDisposedException>(step.Commit);
        }

        Assert.Equal(11, sequence.Length);
        Assert.All(sequence.Handles, part => Assert.Equal(11, part.Length));
        Assert.Equal(before, TestGroups.Bytes(sequence));
        Assert.Equal(bytes, group.Parts.Select(part => part.AllocatedBytes));
        _ = sequence.Feed(60, 61, 62);
        Assert.Equal(14, sequence.Length);
    }

    [Fact]
    public void Calls_out_of_order_and_of_other_parts_are_refused_and_the_step_goes_on()
    {
        using KvCacheGroup group = TestGroups.Make("2 x 2");
        using KvCacheGroup other = TestGroups.Make("2 x 2");
        using KvGroupSequence sequence = group.CreateSequence();
        using KvGroupSequence stranger = other.CreateSequence();
        Assert.Throws<ArgumentException>(() => group.Begin([stranger], [1], [1]));
        Assert.Throws<ArgumentException>(() => group.Begin([sequence, sequence], [1, 2], [1, 1]));
        Assert.Throws<ArgumentException>(() => group.Begin([], [], []));
        using (KvGroupStep step = sequence.Begin([7]))
        {
            Assert.Throws<KvConcurrencyException>(() => sequence.Begin([8]));
            Assert.Throws<KvConcurrencyException>(() => sequence.Pin(0, 0));
            float[] keys = TestGroups.Keys(group, 2, 2, [7]);
            Assert.Throws<ArgumentOutOfRangeException>(() => step.Append(4, 0, keys, keys));
            Assert.Throws<ArgumentOutOfRangeException>(() => step.Append(2, 1, keys, keys));
            Assert.Throws<KvStepOrderException>(() => step.Append(2, 3, keys, keys));
            Assert.Throws<ArgumentException>(() => step.Append(2, 2, keys.AsSpan(1), keys));
            Assert.Throws<KvStepOrderException>(() => step.Attend(0, 0, new float[64], new float[64]));
            Assert.Throws<KvStepOrderException>(step.Commit);
            _ = TestGroups.Run(step, group, [7]);
            step.Commit();
        }

        Assert.Equal(1, sequence.Length);
    }

    [Fact]
    public void Disposals_by_other_threads_end_a_step_in_every_part_and_never_in_some()
    {
        const int Rounds = 600;
        using KvCacheGroup group = TestGroups.Make("4 shards", TestCaches.Config(PageFormat.I8, maxTokens: 2048, maxSequences: 4));
        KvGroupSequence? goes = null;
        using var start = new Barrier(2);
        using var end = new Barrier(2);
        var disposer = new Thread(() =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                start.SignalAndWait();
                Thread.SpinWait(round % 60 * 20);
                goes!.Dispose();
                end.SignalAndWait();
            }
        });
        disposer.IsBackground = true;
        disposer.Start();
        using KvGroupSequence stays = group.CreateSequence();
        (int ended, int committed) = (0, 0);
        bool isWhole = true;
        for (int round = 0; round < Rounds; round++)
        {
            goes = group.CreateSequence();
            int before = stays.Length;
            using KvGroupStep step = group.Begin([stays, goes], [round, round], [1, 1]);
            _ = TestGroups.Run(step, group, [round, round]);
            bool isAtOnce = round % 60 is not (0 or 1);
            if (round % 60 == 0)
            {
                goes.Dispose();
            }

            if (isAtOnce)
            {
                start.SignalAndWait();
            }

            try
            {
                step.Commit();
                committed++;
            }
            catch (ObjectDisposedException)
            {
                ended++;
            }

            if (!isAtOnce)
            {
                start.SignalAndWait();
            }

            end.SignalAndWait();
            isWhole &= Array.TrueForAll(stays.Handles, part => part.Length == stays.Length) && (stays.Length == before || stays.Length == before + 1);
        }

        disposer.Join();
        Assert.True(isWhole);
        Assert.Equal(committed, stays.Length);
        Assert.True(ended >= Rounds / 60 && committed >= Rounds / 60, $"{ended} steps ended, {committed} were committed");
        _ = stays.Feed(9);
        Assert.All(group.Caches, cache => Assert.Equal(1, Enumerable.Range(0, cache.State.Places).Count(place => cache.State.SequenceAt(place) is not null)));
    }

    [Theory]
    [InlineData("sequence")]
    [InlineData("step")]
    [InlineData("group")]
    public void An_accelerator_that_goes_beneath_a_part_keeps_nothing_in_any(string what)
    {
        var model = new KvGeometry(layers: 1, queryHeads: 2, kvHeads: 2, keyWidth: 8, pageTokens: 4);
        using var group = new KvCacheGroup(model, TestCaches.Config(), KvPart.ByHeads(model, "ilgpu-cpu", "ilgpu-cpu"));
        KvGroupSequence sequence = group.CreateSequence();
        KvGroupStep step = sequence.Begin([1]);

        // The first in the order in which they end.
        int gone = what == "step" ? 1 : 0;
        group.Caches[gone].Accelerator!.Dispose();
        IDisposable ends = what switch { "sequence" => sequence, "step" => step, _ => group };
        ends.Dispose();
        Assert.All(sequence.Handles, part => Assert.Null(part.State.Holder));
        Assert.All(sequence.Handles, part => Assert.Equal(what != "step", part.State.Gate.IsDisposed));
        sequence.Dispose();
        group.Dispose();
        Assert.Equal(0, group.AllocatedBytes);
    }

    [Fact]
    public void A_disposed_group_has_nothing_left_and_refuses_calls()
    {
        KvCacheGroup group = TestGroups.Make("2 shards");
        KvGroupSequence sequence = group.CreateSequence();
        KvGroupStep step = sequence.Begin([1]);
        group.Dispose();
        group.Dispose();
        Assert.Equal(0, group.AllocatedBytes);
        Assert.Throws<ObjectDisposedException>(() => step.Tokens);
        Assert.Throws<ObjectDisposedException>(() => sequence.Length);
        Assert.Throws<ObjectDisposedException>(() => group.CreateSequence());
        step.Dispose();
        sequence.Dispose();
    }
}
