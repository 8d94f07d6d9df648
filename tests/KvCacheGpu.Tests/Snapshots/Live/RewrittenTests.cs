using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Restored where formats, rotation, page size or device differ: written anew, exactly where that can be, and said so.</summary>
public sealed class RewrittenTests
{
    private const int Tokens = 27;

    [Theory]
    [InlineData(4, 8)]
    [InlineData(8, 4)]
    [InlineData(4, 6)]
    [InlineData(6, 4)]
    public void Another_page_size_holds_the_same_numbers_and_attends_alike(int from, int to)
    {
        using KvCache saving = TestCaches.Simd(Geometry(from), Config(PageFormat.F32));
        using KvCache cache = TestCaches.Simd(Geometry(to), Config(PageFormat.F32));
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, Tokens);
        KvSequence fork = saved.Fork();
        fork.FeedMany(90, 5);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        KvRestored restored = cache.Restored(store);
        Assert.False(restored.IsExact);
        Assert.Contains(restored.Notes, note => note.Contains($"pages of {from} tokens", StringComparison.Ordinal));
        Assert.True(cache.State.Pool.OpenSlots + cache.State.Pool.SealedSlots < restored.Sequences.Sum(s => s.State.Table.Rows * s.State.Table.Count(0)), "forks share nothing any longer");
        foreach ((KvSequence before, KvSequence after) in new[] { saved, fork }.Zip(restored.Sequences))
        {
            Assert.Equal(before.TokenIds.ToArray(), after.TokenIds.ToArray());
            Assert.Equal(before.Materialized(1).Keys, after.Materialized(1).Keys);
            Assert.Equal(before.Materialized(0).Values, after.Materialized(0).Values);
            for (int step = 0; step < 20; step++)
            {
                after.CheckedStep(40 + step);
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.I8)]
    [InlineData(PageFormat.F16, PageFormat.I8)]
    [InlineData(PageFormat.I8, PageFormat.F16)]
    [InlineData(PageFormat.F16, PageFormat.F32)]
    public void Other_formats_are_what_the_pages_decoded_to_is_encoded_as(PageFormat from, PageFormat to)
    {
        using KvCache saving = TestCaches.Simd(Geometry(4), Config(from));
        using KvCache cache = TestCaches.Simd(Geometry(4), Config(to));
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, Tokens);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        KvRestored restored = cache.Restored(store);
        Assert.True(restored.ReencodedPages > 0);
        Assert.Contains(restored.Notes, note => note.Contains("written anew", StringComparison.Ordinal));
        KvSequence after = restored.Sequences[0];
        (float[] keys, float[] expected) = (after.Materialized(1).Keys, saved.Materialized(1).Keys);
        for (int i = 0; i < keys.Length; i++)
        {
            Assert.Equal(expected[i], keys[i], to == PageFormat.I8 || from == PageFormat.I8 ? 0.05 : 0);
        }

        for (int row = 0; row < after.State.Table.Rows; row++)
        {
            Assert.Equal(cache.State.Classes.SealedIn(row / 2), after.State.Table.PageClass(row, 0));
            Assert.Equal(KernelShape.Open, after.State.Table.PageClass(row, after.State.Table.Count(row) - 1));
            int lossy = (from == PageFormat.I8 ? 1 : 0) + (to == PageFormat.I8 ? 1 : 0);
            Assert.Equal(lossy, cache.State.Pool.EncodingsOf(after.State.Table.Slot(row, 0)).Key);
        }

        for (int step = 0; step < 12; step++)
        {
            after.CheckedStep(40 + step);
        }
    }

    [Fact]
    public void Another_rotation_and_another_device_differ_in_what_they_must_only()
    {
        using KvCache saving = TestCaches.Simd(Geometry(4), Config(PageFormat.I8));
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, Tokens);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        KvCacheOptions turned = Config(PageFormat.I8);
        turned.RotationSeed = 99;
        using KvCache cache = TestCaches.Simd(Geometry(4), turned);
        KvRestored restored = cache.Restored(store);
        Assert.Equal(saved.State.Table.FirstOpen * saved.State.Table.Rows, restored.ReencodedPages);
        Assert.True(restored.ExactPages > 0, "open pages are in the plain basis");
        restored.Sequences[0].CheckedStep(50);
        KvCacheOptions device = Config(PageFormat.I8);
        device.Device = "ilgpu-cpu";
        using var portable = new KvCache(Geometry(4), device);
        KvRestored there = portable.Restored(store);
        Assert.True(there.IsExact);
        Assert.Equal(LiveCaches.Transcript([saved]), LiveCaches.Transcript(there.Sequences));
    }

    [Fact]
    public void A_hole_where_a_larger_page_needs_a_token_is_refused_and_a_whole_one_stays_a_hole()
    {
        KvCacheOptions config = Config(PageFormat.I8);
        config.Policy = new SlidingOnly(new WindowPolicy(8, 4));
        using KvCache saving = TestCaches.Simd(Geometry(4), config);
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, 48, 4);
        Assert.True(saved.EvictedTokens > 0);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        using KvCache small = TestCaches.Simd(Geometry(2), Config(PageFormat.I8));
        Assert.Equal(saved.EvictedTokens, small.Restored(store).Sequences[0].EvictedTokens);
        using KvCache large = TestCaches.Simd(Geometry(32), Config(PageFormat.I8));
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => large.Restored(store)).Code);
        Assert.Equal(default, large.GetPageCounts());
    }

    private static KvGeometry Geometry(int pageTokens) => new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, pageTokens: pageTokens);

    private static KvCacheOptions Config(PageFormat format)
    {
        KvCacheOptions config = TestCaches.Config(format);
        config.ModelFingerprint = "model";
        return config;
    }
}
