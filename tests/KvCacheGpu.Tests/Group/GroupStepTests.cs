namespace KvCacheGpu.Tests;

/// <summary>A group of parts gives, bit for bit, what one cache of the whole model gives: every step is in all parts or in none.</summary>
public sealed class GroupStepTests
{
    public static TheoryData<string, PageFormat, PageFormat> Cases => new()
    {
        { "1 shard", PageFormat.F32, PageFormat.F32 },
        { "2 shards", PageFormat.F32, PageFormat.F32 },
        { "2 shards", PageFormat.T4, PageFormat.V4 },
        { "3 shards", PageFormat.I8, PageFormat.I8 },
        { "4 shards", PageFormat.F32, PageFormat.F32 },
        { "4 shards", PageFormat.I8, PageFormat.I8 },
        { "2 layers", PageFormat.F32, PageFormat.F32 },
        { "2 layers", PageFormat.T3, PageFormat.V3 },
        { "2 x 2", PageFormat.I8, PageFormat.V4 },
        { "uneven", PageFormat.T4, PageFormat.V4 },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Outputs_and_pages_are_those_of_one_cache(string tiling, PageFormat key, PageFormat value)
    {
        KvCacheOptions options = TestCaches.Config(new KvFormats(key, value));
        options.LayerFormats = new Dictionary<int, KvFormats> { [1] = new(PageFormat.I8, PageFormat.I8) };
        using var whole = new KvCache(TestGroups.Model, options);
        using KvCacheGroup group = TestGroups.Make(tiling, options);
        using KvSequence one = whole.CreateSequence();
        using KvGroupSequence all = group.CreateSequence();
        for (int first = 0, round = 0; first < 90; first += round % 9, round++)
        {
            int[] ids = [.. Enumerable.Range(first, Math.Max(1, round % 9))];
            Assert.Equal(one.FeedWhole(ids), all.Feed(ids));
        }

        Assert.Equal(one.Length, all.Length);
        Assert.True(one.TokenIds.SequenceEqual(all.TokenIds));
        Assert.Equal(TestGroups.Bytes(one), TestGroups.Bytes(all));
        Assert.Equal(one.AllocatedBytes, all.AllocatedBytes);
    }

    [Theory]
    [InlineData("2 shards")]
    [InlineData("2 x 2")]
    public void A_step_over_several_sequences_is_each_ones_own(string tiling)
    {
        using var whole = new KvCache(TestGroups.Model, TestCaches.Config(PageFormat.I8));
        using KvCacheGroup group = TestGroups.Make(tiling, TestCaches.Config(PageFormat.I8));
        using KvSequence alone = whole.CreateSequence();
        using KvGroupSequence a = group.CreateSequence();
        using KvGroupSequence b = group.CreateSequence();
        for (int round = 0; round < 12; round++)
        {
            int[] ids = [round, round + 100, round + 101];
            using KvGroupStep step = group.Begin([a, b], ids, [1, 2]);
            Assert.Equal(3, step.Tokens);
            _ = TestGroups.Run(step, group, ids);
            step.Commit();
            _ = alone.FeedWhole(round + 100, round + 101);
        }

        Assert.Equal((12, 24), (a.Length, b.Length));
        Assert.Equal(TestGroups.Bytes(alone), TestGroups.Bytes(b));
    }

    [Theory]
    [InlineData("2 shards")]
    [InlineData("4 shards")]
    [InlineData("2 layers")]
    public void Parts_are_driven_by_threads_of_their_own(string tiling)
    {
        using var whole = new KvCache(TestGroups.Model, TestCaches.Config(PageFormat.I8));
        using KvCacheGroup group = TestGroups.Make(tiling, TestCaches.Config(PageFormat.I8));
        using KvSequence one = whole.CreateSequence();
        using KvGroupSequence all = group.CreateSequence();
        for (int id = 0; id < 40; id++)
        {
            int[] ids = [id];
            using KvGroupStep step = all.Begin(ids);
            var output = new float[group.Geometry.Layers * group.Geometry.QueryHeads * group.Geometry.ValueWidth];
            Thread[] threads = [.. Enumerable.Range(0, group.Parts.Count).Select(part => new Thread(() => TestGroups.Run(step, group, part, ids, output)))];
            Array.ForEach(threads, thread => thread.Start());
            Array.ForEach(threads, thread => thread.Join());
            step.Commit();
            Assert.Equal(one.FeedWhole(id), output);
        }

        Assert.Equal(TestGroups.Bytes(one), TestGroups.Bytes(all));
    }

    [Theory]
    [InlineData("2 shards")]
    [InlineData("uneven")]
    public void Abandoned_steps_forks_and_cuts_are_those_of_one_cache(string tiling)
    {
        using var whole = new KvCache(TestGroups.Model, TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.V4)));
        using KvCacheGroup group = TestGroups.Make(tiling, TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.V4)));
        using KvSequence one = whole.CreateSequence();
        using KvGroupSequence all = group.CreateSequence();
        int[] prompt = [.. Enumerable.Range(0, 21)];
        Assert.Equal(one.FeedWhole(prompt), all.Feed(prompt));
        using (KvGroupStep step = all.Begin([90, 91]))
        {
            _ = TestGroups.Run(step, group, [90, 91]);
        }

        using KvSequence oneFork = one.Fork();
        using KvGroupSequence fork = all.Fork();
        Assert.Equal(oneFork.FeedWhole(50, 51, 52), fork.Feed(50, 51, 52));
        Assert.Equal(one.FeedWhole(60), all.Feed(60));
        Assert.Equal(oneFork.Truncate(13), fork.Truncate(13));
        Assert.Equal(oneFork.FeedWhole(70, 71, 72, 73, 74, 75), fork.Feed(70, 71, 72, 73, 74, 75));
        Assert.Equal(TestGroups.Bytes(one), TestGroups.Bytes(all));
        Assert.Equal(TestGroups.Bytes(oneFork), TestGroups.Bytes(fork));
    }

    [Fact]
    public void A_prefix_is_reused_as_far_as_every_part_has_it()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F32);
        options.PrefixReuse = true;
        using KvCacheGroup group = TestGroups.Make("2 shards", options);
        int[] prompt = [.. Enumerable.Range(0, 33)];
        float[] last;
        using (KvGroupSequence first = group.CreateSequence())
        {
            _ = first.Feed(prompt[..32]);
            last = first.Feed(32);
        }

        using (KvGroupSequence second = group.CreateSequence())
        {
            int reused = second.Reuse(prompt);
            Assert.True(reused is > 16 and < 33, $"{reused} tokens");
            _ = second.Feed(prompt[reused..32]);
            Assert.Equal(last, second.Feed(32));
        }

        // One part loses its pages of the end, as when their slots were needed.
        using (group.Caches[1].State.Pool.Gate.Enter())
        {
            BlockHash root = group.Caches[1].State.NamespaceOf(KvSequenceOptions.Default, null).ToHash();
            group.Caches[1].State.Prefixes!.Index.TruncateBranch(root, prompt, 10);
        }

        using KvGroupSequence third = group.CreateSequence();
        int least = third.Reuse(prompt);
        Assert.InRange(least, 8, 10);
        Assert.Equal(least, third.Handles[0].Length);
        Assert.Equal(least, third.Handles[1].Length);
        _ = third.Feed(prompt[least..32]);
        Assert.Equal(last, third.Feed(32));
    }

    [Theory]
    [InlineData("2 x 2", true)]
    [InlineData("4 shards", false)]
    public void Appends_attention_and_commits_allocate_no_managed_memory(string tiling, bool window)
    {
        KvCacheOptions options = TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.V4));
        options.MaxTokens = 2048;
        options.Policy = window ? new WindowPolicy(16) : null;
        using KvCacheGroup group = TestGroups.Make(tiling, options);
        using KvGroupSequence sequence = group.CreateSequence();
        int[] ids = [1];
        float[][] keys = [.. Enumerable.Range(0, group.Parts.Count).Select(part => TestGroups.Keys(group, part, group.Parts[part].Part.FirstLayer, ids))];
        float[] queries = TokenContent.Queries(group.Geometry, 0, ids);
        var output = new float[group.Geometry.QueryHeads * group.Geometry.ValueWidth];
        Steps(100);
        Assert.Equal(0, Steps(400));

        long Steps(int count)
        {
            long allocated = 0;
            for (int i = 0; i < count; i++)
            {
                using KvGroupStep step = sequence.Begin(ids);
                (int collections, long before) = (GC.CollectionCount(0), GC.GetAllocatedBytesForCurrentThread());
                for (int part = 0; part < keys.Length; part++)
                {
                    KvGroupPart own = group.Parts[part];
                    for (int layer = own.Part.FirstLayer; layer < own.Part.FirstLayer + own.Part.Layers; layer++)
                    {
                        step.Append(part, layer, keys[part], keys[part]);
                        step.Attend(part, layer, queries.AsSpan(0, own.Geometry.QueryHeads * own.Geometry.KeyWidth), output);
                    }
                }

                step.Commit();
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;

                // A collection that another test begins counts the rest of the thread's allocation buffer as allocated.
                allocated += collections != GC.CollectionCount(0) ? 0 : bytes;
            }

            return allocated;
        }
    }

    [Fact]
    public async Task Sequences_on_threads_of_their_own_share_a_tight_budget_beside_saves()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 512, maxSequences: 8);
        options.MaxSequenceTokens = 4096;
        options.Policy = new H2oPolicy { SinkTokens = 2, WindowTokens = 6 };
        options.MemoryBudgetBytes = KvCache.BytesFor(TestGroups.Model, options).MinimumBytes * 2;
        using KvCacheGroup group = TestGroups.Make("2 shards", options);
        string folder = Directory.CreateTempSubdirectory("group-").FullName;
        try
        {
            var store = new SnapshotStore(folder);
            int steps = 0, refused = 0;
            Task[] threads = [.. Enumerable.Range(0, 3).Select(thread => Task.Run(() => Live(thread)))];
            for (int save = 0; save < 5; save++)
            {
                await group.SaveAsync(store, "group");
            }

            await Task.WhenAll(threads);
            Assert.True(steps > 200, $"{steps} steps, {refused} refused");
            Assert.All(group.Caches, cache => Assert.Equal(0, Enumerable.Range(0, cache.State.Places).Count(place => cache.State.SequenceAt(place) is not null)));

            void Live(int thread)
            {
                for (int round = 0; round < 3; round++)
                {
                    using KvGroupSequence sequence = group.CreateSequence();
                    for (int id = 0; id < 60; id++)
                    {
                        try
                        {
                            _ = sequence.Feed((1000 * thread) + id);
                            Interlocked.Increment(ref steps);
                        }
                        catch (KvOutOfMemoryException)
                        {
                            // The others had all the room at that moment.
                            Interlocked.Increment(ref refused);
                        }

                        Assert.All(sequence.Handles, part => Assert.Equal(sequence.Length, part.Length));
                        Assert.All(group.Parts, part => Assert.True(part.AllocatedBytes <= part.BudgetBytes));
                        if (id == 40)
                        {
                            sequence.Truncate(sequence.Length - 3);
                        }
                    }
                }
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
