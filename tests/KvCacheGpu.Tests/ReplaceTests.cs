using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>One token changes, or nothing does.</summary>
public class ReplaceTests
{
    private const int Other = 9000;

    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, 0)]
    [InlineData(PageFormat.F32, 5)]
    [InlineData(PageFormat.F16, 7)]
    [InlineData(PageFormat.BF16, 18)]
    [InlineData(PageFormat.F16, 20)]
    public void In_full_precision_it_is_as_if_the_other_had_been_appended(PageFormat format, int position)
    {
        KvCacheOptions config = TestCaches.Config(format);
        config.Policy = new H2oPolicy();
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence fresh = cache.CreateSequence();
        using KvSequence sequence = cache.CreateSequence();
        int[] ids = [.. Enumerable.Range(1, 21)];
        sequence.FeedMany(1, 21, chunk: 3);
        ids[position] = Other;
        foreach (int[] chunk in ids.Chunk(3))
        {
            fresh.Feed(chunk);
        }

        Put(sequence, position, Other);
        AssertSame(fresh, sequence);
        for (int id = 40; id < 50; id++)
        {
            Assert.Equal(fresh.Decode(id), sequence.Decode(id));
        }

        AssertSame(fresh, sequence);
    }

    [Fact]
    public void Forks_and_snapshots_keep_what_they_had()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.F16));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 14);
        using KvSequence fork = sequence.Fork();
        int[] kept = [.. Enumerable.Range(1, 14)];
        foreach (int position in (int[])[1, 13])
        {
            Put(sequence, position, Other + position);
        }

        Assert.Equal(TokenContent.Keys(G, 1, kept), fork.Materialized(1).Keys);
        (kept[1], kept[13]) = (Other + 1, Other + 13);
        Assert.Equal(TokenContent.Keys(G, 1, kept), sequence.Materialized(1).Keys);
        Assert.Equal(TokenContent.Values(G, 0, kept), sequence.Materialized(0).Values);
        fork.Dispose();
        Put(sequence, 13, 14);
        sequence.Dispose();
        Assert.Equal(default, cache.GetPageCounts());
        Assert.Equal(cache.State.Pool.SlabCount, cache.State.Pool.FreeSlabs);
    }

    [Fact]
    public void In_a_compressed_page_it_is_refused_and_the_first_place_for_it_is_named()
    {
        KvCacheOptions config = TestCaches.Config(new KvFormats(PageFormat.T3, PageFormat.V3));
        config.EdgeLayers = 0;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 22);
        (float[] keys, float[] values) = sequence.Materialized(1);
        KvUnsupportedException refused = Assert.Throws<KvUnsupportedException>(() => Put(sequence, 15, Other));
        Assert.Equal("E009", refused.Code);
        Assert.Contains("from 16 on", refused.Message, StringComparison.Ordinal);
        Assert.Contains("t3/v3", refused.Message, StringComparison.Ordinal);
        Assert.Equal(keys, sequence.Materialized(1).Keys);
        Put(sequence, 16, Other);
        int row = G.KvHeads * G.KeyWidth;
        TokenContent.Keys(G, 1, [Other]).CopyTo(keys.AsSpan(16 * row));
        TokenContent.Values(G, 1, [Other]).CopyTo(values.AsSpan(16 * row));
        (float[] newKeys, float[] newValues) = sequence.Materialized(1);
        Assert.Equal(keys, newKeys);
        Assert.Equal(values, newValues);
    }

    [Fact]
    public void Refused_it_changes_nothing()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.F16, maxTokens: 16, maxSequences: 1));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 15);
        float[] before = [.. sequence.Materialized(0).Keys, .. sequence.Materialized(1).Values];
        long allocated = cache.AllocatedBytes;
        float[] good = All(Other, TokenContent.Keys);
        float[] bad = All(Other, TokenContent.Keys);
        bad[^3] = float.NegativeInfinity;
        KvNonFiniteException e = Assert.Throws<KvNonFiniteException>(() => sequence.Replace(14, good, bad));
        Assert.Equal((1, 0, 1, true), (e.Layer, e.Token, e.Head, e.IsValue));
        bad[0] = 1e30f;
        Assert.False(Assert.Throws<KvNonFiniteException>(() => sequence.Replace(2, bad, bad)).IsValue);
        Assert.Throws<ArgumentOutOfRangeException>("position", () => sequence.Replace(15, good, good));
        Assert.Throws<ArgumentException>("keys", () => sequence.Replace(1, good.AsSpan(1), good));
        Assert.Throws<ArgumentException>("values", () => sequence.Replace(1, good, [.. good, 0]));
        using (KvStep step = sequence.Begin([1]))
        {
            Assert.Throws<KvConcurrencyException>(() => sequence.Replace(1, good, good));
        }

        float[] after = [.. sequence.Materialized(0).Keys, .. sequence.Materialized(1).Values];
        Assert.Equal(before, after);
        Assert.Equal(allocated, cache.AllocatedBytes);
    }

    [Fact]
    public void Without_room_for_a_copy_it_is_E001()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.F16, maxTokens: 64, maxSequences: 1);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 64);
        SlotCounts one = SlotCounts.Of(KernelShape.Open, 1);
        Span<int> slot = stackalloc int[1];
        using (cache.State.Pool.Gate.Enter())
        {
            while (cache.State.Room.TryTake(one, slot))
            {
            }
        }

        Assert.Equal("E001", Assert.Throws<KvOutOfMemoryException>(() => Put(sequence, 3, Other)).Code);
        Assert.Equal(TokenContent.Keys(G, 0, [.. Enumerable.Range(1, 64)]), sequence.Materialized(0).Keys);

        // An open page needs none.
        Put(sequence, 62, Other);
    }

    [Fact]
    public void What_was_dropped_or_is_known_by_its_ids_is_refused()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(4, 4);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24, chunk: 1);
        Assert.Contains("dropped", Assert.Throws<KvUnsupportedException>(() => Put(sequence, 9, Other)).Message, StringComparison.Ordinal);
        Put(sequence, 2, Other);
        float[] keys = new float[G.KvHeads * G.KeyWidth];
        Assert.True(sequence.TryRead(1, 2, keys, new float[keys.Length]));
        Assert.Equal(TokenContent.Keys(G, 1, [Other]), keys);

        config.PrefixReuse = true;
        using KvCache sharing = TestCaches.Simd(G, config);
        using KvSequence shared = sharing.CreateSequence();
        shared.Feed(1, 2);
        Assert.Contains("PrefixReuse", Assert.Throws<KvUnsupportedException>(() => Put(shared, 1, Other)).Message, StringComparison.Ordinal);
    }

    private static void Put(KvSequence sequence, int position, int id) => sequence.Replace(position, All(id, TokenContent.Keys), All(id, TokenContent.Values));

    private static float[] All(int id, Content content) => [.. content(G, 0, [id]), .. content(G, 1, [id])];

    private static void AssertSame(KvSequence expected, KvSequence actual)
    {
        float[][] digests = [.. Enumerable.Range(0, 4).Select(_ => new float[G.KeyWidth])];
        for (int layer = 0; layer < G.Layers; layer++)
        {
            Assert.Equal(expected.Materialized(layer).Keys, actual.Materialized(layer).Keys);
            Assert.Equal(expected.Materialized(layer).Values, actual.Materialized(layer).Values);
            for (int page = 0; page < G.PagesFor(expected.Length); page++)
            {
                bool has = expected.PageDigest(layer, 1, page, digests[0], digests[1]);
                Assert.Equal(has, actual.PageDigest(layer, 1, page, digests[2], digests[3]));
                Assert.Equal(digests[..2], digests[2..]);
            }
        }

        Assert.Equal(expected.AllocatedBytes, actual.AllocatedBytes);
    }

    private delegate float[] Content(KvGeometry geometry, int layer, ReadOnlySpan<int> ids);
}
