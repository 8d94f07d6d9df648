namespace KvCacheGpu.Tests;

/// <summary>One snapshot of the whole model: what any tiling saves, any other tiling and a single cache load, bit for bit.</summary>
public sealed class GroupSnapshotTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("group-").FullName;

    public static TheoryData<string, string, PageFormat, PageFormat> Cases
    {
        get
        {
            var cases = new TheoryData<string, string, PageFormat, PageFormat>();
            foreach (string from in (string[])["whole", "1 shard", "2 shards", "4 shards", "2 layers", "uneven"])
            {
                foreach (string to in (string[])["whole", "1 shard", "2 shards", "4 shards", "2 x 2", "uneven"])
                {
                    cases.Add(from, to, PageFormat.F32, PageFormat.F32);
                }
            }

            cases.Add("4 shards", "2 shards", PageFormat.F16, PageFormat.F16);
            cases.Add("2 shards", "4 shards", PageFormat.T4, PageFormat.V4);
            cases.Add("uneven", "2 x 2", PageFormat.T4, PageFormat.I8);
            cases.Add("whole", "2 layers", PageFormat.T4, PageFormat.V4);
            cases.Add("4 shards", "whole", PageFormat.T4, PageFormat.V4);
            cases.Add("uneven", "whole", PageFormat.I8, PageFormat.V3);
            cases.Add("whole", "2 layers", PageFormat.I8, PageFormat.I8);
            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task What_one_tiling_saves_another_goes_on_with_bit_for_bit(string from, string to, PageFormat key, PageFormat value)
    {
        var store = new SnapshotStore(_folder);
        KvCacheOptions options = TestCaches.Config(new KvFormats(key, value));
        options.LayerFormats = new Dictionary<int, KvFormats> { [2] = new(PageFormat.I8, PageFormat.I8) };
        options.KeyScales = key == PageFormat.T4 ? SomeScales() : null;
        using Subject saved = new(from, options);
        options.KeyScales = null;
        using Subject loaded = new(to, options);
        saved.Feed(0, [.. Enumerable.Range(0, 30)]);
        saved.Feed(0, 30, 31, 32, 33);
        saved.Fork();
        saved.Feed(1, 70, 71, 72);
        saved.Feed(0, 80);
        saved.Describe();
        await saved.Save(store);
        await loaded.Load(store);
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(saved.Bytes(i), loaded.Bytes(i));
            Assert.Equal(saved.Feed(i, 90, 91, 92, 93, 94, 95, 96), loaded.Feed(i, 90, 91, 92, 93, 94, 95, 96));
            Assert.Equal(saved.Bytes(i), loaded.Bytes(i));
        }

        Assert.Equal(saved.Described(), loaded.Described());
    }

    [Theory]
    [InlineData("2 shards", "4 shards")]
    [InlineData("4 shards", "2 layers")]
    public async Task Scores_and_pins_come_along_so_that_the_policy_goes_on_alike(string from, string to)
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 512, maxSequences: 2);
        options.Policy = new DropKvPolicy { SinkTokens = 2, WindowTokens = 6 };
        options.MaxSequenceTokens = 1024;
        options.MemoryBudgetBytes = KvCache.BytesFor(TestGroups.Model, options).MinimumBytes * 4;
        using KvCacheGroup before = TestGroups.Make(from, options);
        using KvCacheGroup after = TestGroups.Make(to, options);
        TestGroups.HoldTo(before, pagesOfRow: 16);
        TestGroups.HoldTo(after, pagesOfRow: 16);
        using KvGroupSequence sequence = before.CreateSequence();
        for (int id = 0; id < 160; id += 4)
        {
            _ = sequence.Feed(id, id + 1, id + 2, id + 3);
        }

        Assert.True(sequence.EvictedTokens > 10, $"{sequence.EvictedTokens} tokens were evicted");
        sequence.Pin(150, 4);
        var store = new SnapshotStore(_folder);
        await before.SaveAsync(store, "group");
        KvGroupRestored restored = await after.LoadAsync(store, "group");
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        using KvGroupSequence same = Assert.Single(restored.Sequences);
        Assert.Equal(TestGroups.Pages(sequence), TestGroups.Pages(same));
        for (int id = 160; id < 300; id += 4)
        {
            before.Watermark = ((long)(after.Watermark * TestGroups.Room(after)) + 0.5) / TestGroups.Room(before);
            Assert.Equal(sequence.Feed(id, id + 1, id + 2, id + 3), same.Feed(id, id + 1, id + 2, id + 3));
            Assert.Equal(TestGroups.Pages(sequence), TestGroups.Pages(same));
        }
    }

    [Fact]
    public async Task Pages_of_another_size_are_written_anew_in_every_part()
    {
        var store = new SnapshotStore(_folder);
        using KvCacheGroup before = TestGroups.Make("2 shards");
        using KvGroupSequence sequence = before.CreateSequence();
        _ = sequence.Feed([.. Enumerable.Range(0, 22)]);
        await before.SaveAsync(store, "group");
        KvGeometry other = new(TestGroups.Model.Layers, TestGroups.Model.QueryHeads, TestGroups.Model.KvHeads, TestGroups.Model.KeyWidth, pageTokens: 8);
        using var after = new KvCacheGroup(other, TestCaches.Config(), KvPart.ByHeads(other, "cpu", "cpu", "cpu", "cpu"));
        KvGroupRestored restored = await after.LoadAsync(store, "group");
        using var fresh = new KvCache(other, TestCaches.Config());
        using KvSequence same = fresh.CreateSequence();
        _ = same.FeedWhole([.. Enumerable.Range(0, 22)]);
        Assert.Equal(same.FeedWhole(50, 51), restored.Sequences[0].Feed(50, 51));
    }

    [Fact]
    public async Task A_load_that_one_part_has_no_room_for_leaves_no_trace_in_any()
    {
        var store = new SnapshotStore(_folder);
        using KvCacheGroup before = TestGroups.Make("2 shards");
        using KvGroupSequence sequence = before.CreateSequence();
        _ = sequence.Feed([.. Enumerable.Range(0, 32)]);
        await before.SaveAsync(store, "group");
        KvCacheOptions options = TestCaches.Config(maxTokens: 32, maxSequences: 2);
        using KvCacheGroup after = TestGroups.Make("2 shards", options);

        // All pages of the last part are taken.
        using KvSequence hog = after.Caches[1].CreateSequence();
        hog.FeedMany(0, 32);
        long[] bytes = [.. after.Parts.Select(part => part.AllocatedBytes)];
        await Assert.ThrowsAsync<KvOutOfMemoryException>(() => after.LoadAsync(store, "group"));
        Assert.Equal(bytes, after.Parts.Select(part => part.AllocatedBytes));
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => after.LoadAsync(store, "group", ["no such"]));
        KvGeometry other = new(TestGroups.Model.Layers, TestGroups.Model.QueryHeads, 2, TestGroups.Model.KeyWidth, pageTokens: 4);
        using var wrong = new KvCacheGroup(other, TestCaches.Config(), KvPart.ByHeads(other, "cpu", "cpu"));
        KvConfigurationException e = await Assert.ThrowsAsync<KvConfigurationException>(() => wrong.LoadAsync(store, "group"));
        Assert.Contains("KV heads", e.Message, StringComparison.Ordinal);
        Assert.All(wrong.Caches, cache => Assert.Null(cache.State.SequenceAt(0)));
    }

    [Theory]
    [InlineData("2 shards", 3)]
    [InlineData("uneven", 5)]
    public async Task A_budget_that_does_not_hold_a_snapshot_is_up_to_one_plan(string tiling, int halves)
    {
        var store = new SnapshotStore(_folder);
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 512, maxSequences: 2);
        options.Policy = new H2oPolicy { SinkTokens = 2, WindowTokens = 6 };
        using var whole = new KvCache(TestGroups.Model, options);
        using KvSequence sequence = whole.CreateSequence();
        for (int id = 0; id < 400; id += 8)
        {
            _ = sequence.FeedWhole([.. Enumerable.Range(id, 8)]);
        }

        await whole.SaveAsync(store, "group");
        options.MemoryBudgetBytes = KvCache.BytesFor(TestGroups.Model, options).MinimumBytes * halves / 2;
        using KvCacheGroup group = TestGroups.Make(tiling, options);
        KvGroupRestored restored = await group.LoadAsync(store, "group");
        Assert.False(restored.IsExact);
        Assert.True(restored.EvictedPages > 10, $"{restored.EvictedPages} pages were dropped");
        using KvGroupSequence same = Assert.Single(restored.Sequences);
        Assert.Equal(400, same.Length);
        int[] pages = [.. TestGroups.Pages(same).Select(row => row.Count)];
        Assert.True(pages.Max() - pages.Min() <= 1, string.Join(' ', pages));
        Assert.All(group.Parts, part => Assert.True(part.AllocatedBytes <= part.BudgetBytes));
        _ = same.Feed(500, 501);
    }

    [Fact]
    public async Task A_save_goes_on_beside_steps_and_holds_each_sequence_between_two_of_them()
    {
        var store = new SnapshotStore(_folder);
        using KvCacheGroup group = TestGroups.Make("4 shards", TestCaches.Config(PageFormat.I8));
        using KvGroupSequence sequence = group.CreateSequence();
        using var done = new CancellationTokenSource();
        Task feeding = Task.Run(() =>
        {
            for (int id = 0; id < 240; id += 2)
            {
                _ = sequence.Feed(id, id + 1);
            }

            done.Cancel();
        });
        int checkedLoads = 0;
        do
        {
            await group.SaveAsync(store, "group");
            using var whole = new KvCache(TestGroups.Model, TestCaches.Config(PageFormat.I8));
            using KvCache same = new(TestGroups.Model, TestCaches.Config(PageFormat.I8));
            KvRestored restored = await whole.LoadAsync(store, "group");
            using KvSequence fresh = same.CreateSequence();
            Assert.Equal(0, restored.Sequences[0].Length % 2);
            for (int id = 0; id < restored.Sequences[0].Length; id += 2)
            {
                _ = fresh.FeedWhole(id, id + 1);
            }

            Assert.Equal(TestGroups.Bytes(fresh), TestGroups.Bytes(restored.Sequences[0]));
            checkedLoads++;
        }
        while (!done.IsCancellationRequested);
        await feeding;
        Assert.True(checkedLoads > 0);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static KvKeyScales SomeScales()
    {
        KvGeometry model = TestGroups.Model;
        byte[] exponents = new byte[model.Layers * model.KvHeads * model.KeyWidth];
        new Random(6).NextBytes(exponents);
        return new KvKeyScales(model, [.. exponents.Select(exponent => (byte)(exponent % 4))]);
    }

    /// <summary>A group, or a cache of the whole model, with up to two sequences.</summary>
    private sealed class Subject : IDisposable
    {
        private readonly KvCacheGroup? _group;
        private readonly KvCache? _cache;
        private List<KvGroupSequence> _all = [];
        private List<KvSequence> _one = [];

        public Subject(string tiling, KvCacheOptions options)
        {
            if (tiling == "whole")
            {
                _cache = new KvCache(TestGroups.Model, options);
                _one.Add(_cache.CreateSequence());
            }
            else
            {
                _group = TestGroups.Make(tiling, options);
                _all.Add(_group.CreateSequence());
            }
        }

        public float[] Feed(int sequence, params int[] ids) => _cache is null ? _all[sequence].Feed(ids) : _one[sequence].FeedWhole(ids);

        public int[][] Bytes(int sequence) => _cache is null ? TestGroups.Bytes(_all[sequence]) : TestGroups.Bytes(_one[sequence]);

        public void Fork()
        {
            if (_cache is null)
            {
                _all.Add(_all[0].Fork());
            }
            else
            {
                _one.Add(_one[0].Fork());
            }
        }

        public void Describe()
        {
            var notes = new Dictionary<string, string> { ["note"] = "of the host" };
            if (_cache is null)
            {
                (_all[0].Name, _all[0].Metadata) = ("named", notes);
            }
            else
            {
                (_one[0].Name, _one[0].Metadata) = ("named", notes);
            }
        }

        public string Described() => _cache is null
            ? string.Join("; ", _all.Select(s => $"{(s.Name is null or "1" ? "1" : s.Name)}, {s.Metadata.GetValueOrDefault("note")}, {string.Join(' ', s.TokenIds.ToArray())}"))
            : string.Join("; ", _one.Select(s => $"{(s.Name is null or "1" ? "1" : s.Name)}, {s.Metadata.GetValueOrDefault("note")}, {string.Join(' ', s.TokenIds.ToArray())}"));

        public Task<SnapshotInfo> Save(SnapshotStore store) => _cache is null ? _group!.SaveAsync(store, "group") : _cache.SaveAsync(store, "group");

        public async Task Load(SnapshotStore store)
        {
            if (_cache is null)
            {
                KvGroupRestored restored = await _group!.LoadAsync(store, "group");
                Assert.True(restored.IsExact || restored.Notes.All(note => note.Contains("model was not compared", StringComparison.Ordinal)), string.Join("; ", restored.Notes));
                Assert.Equal(0, restored.ReencodedPages);
                _all.ForEach(sequence => sequence.Dispose());
                _all = [.. restored.Sequences];
            }
            else
            {
                KvRestored restored = await _cache.LoadAsync(store, "group");
                Assert.Equal(0, restored.ReencodedPages);
                _one.ForEach(sequence => sequence.Dispose());
                _one = [.. restored.Sequences];
            }
        }

        public void Dispose()
        {
            _group?.Dispose();
            _cache?.Dispose();
        }
    }
}
