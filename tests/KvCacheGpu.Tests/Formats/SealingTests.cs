using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class SealingTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvFormats T4 = new(PageFormat.T4, PageFormat.V4);

    public static TheoryData<PageFormat, PageFormat> Pairs()
    {
        var data = new TheoryData<PageFormat, PageFormat>();
        foreach (KvFormats pair in TestCaches.NaturalPairs.Where(p => p.Key.Takes(G.KeyWidth)))
        {
            data.Add(pair.Key, pair.Value);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Every_sealed_page_tells_its_keys_mean_and_deviation(PageFormat key, PageFormat value)
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(new KvFormats(key, value)));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 21);
        var mean = new float[8];
        var deviation = new float[8];
        for (int page = 0; page < 4; page++)
        {
            Assert.True(sequence.PageDigest(1, 1, page, mean, deviation));
            float[] keys = TokenContent.Keys(G, 1, [.. Enumerable.Range(1 + (4 * page), 4)]);
            double[][] own = [.. Enumerable.Range(0, 4).Select(t => keys.AsSpan(((t * 2) + 1) * 8, 8).ToArray().Select(x => (double)x).ToArray())];
            double spread = 0;
            for (int e = 0; e < 8; e++)
            {
                double average = own.Average(k => k[e]);
                spread += own.Average(k => Math.Pow(k[e] - average, 2));

                // Of T the mean is of keys divided by their lengths, which differ here.
                Assert.Equal(average, mean[e], key.IsCentered() ? 0.6 : 2e-3);
            }

            // A rotation keeps the norm, whatever it does to each element.
            double norm = Math.Sqrt(deviation.Sum(d => (double)d * d));
            Assert.InRange(norm / Math.Sqrt(spread), key.IsCentered() ? 0.7 : 0.995, key.IsCentered() ? 1.3 : 1.005);
        }

        Assert.False(sequence.PageDigest(1, 1, 4, mean, deviation), "page 4 is still open");
        Assert.ThrowsAny<ArgumentException>(() => sequence.PageDigest(1, 1, 6, mean, deviation));
        Assert.ThrowsAny<ArgumentException>(() => sequence.PageDigest(1, 1, 0, mean, deviation.AsSpan(1)));
    }

    [Fact]
    public void Pages_of_the_open_layout_are_sealed_where_they_lie_and_once()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(PageFormat.F16));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 7);
        int slot = sequence.State.Table.Slot(3, 0);
        using KvSequence fork = sequence.Fork();
        sequence.Feed(8);
        Assert.Equal((slot, 1), (sequence.State.Table.Slot(3, 0), sequence.State.Table.PageClass(3, 0)));
        Assert.Equal((slot, 0), (fork.State.Table.Slot(3, 0), fork.State.Table.PageClass(3, 0)));
        int digest = cache.State.Tier.Shape.Classes[1].DigestOffset + (slot * PageLayout.UnitWords);

        // Were it written again, what is put there now would go.
        cache.State.Tier.Load(digest, [0x12345678]);
        fork.Feed(8);
        Assert.Equal((slot, 1), (fork.State.Table.Slot(3, 0), fork.State.Table.PageClass(3, 0)));
        fork.FeedMany(9, 12);
        sequence.FeedMany(9, 12);
        Span<int> word = stackalloc int[1];
        cache.State.Tier.Read(digest, word);
        Assert.Equal(0x12345678, word[0]);
    }

    [Fact]
    public void A_page_that_its_format_cannot_hold_stays_in_full_precision_and_sealed()
    {
        KvCacheOptions config = TestCaches.Config(T4);
        (config.NonFinite, config.FullPrecision) = (NonFinitePolicy.Keep, PageFormat.F16);
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        FeedWithNaN(sequence, 16, at: 5);
        Assert.Equal([1, 0, 1, 0], Classes(sequence, row: 1));
        Assert.Equal([1, 1, 1, 0], Classes(sequence, row: 0));
        KvPageCounts counts = cache.GetPageCounts();
        Assert.Equal((4, 12), (counts.Open, counts.Sealed));
        Assert.Contains(counts.ByFormats, f => f is { Formats: { Key: PageFormat.F16 }, Open: 4, Sealed: 1 });
        Assert.Contains(counts.ByFormats, f => f.Formats == T4 && f is { Open: 0, Sealed: 11 });
        Assert.False(sequence.PageDigest(0, 1, 1, new float[8], new float[8]));

        // Never written again: a fork that goes back into it takes a copy.
        int slot = sequence.State.Table.Slot(1, 1);
        using KvSequence fork = sequence.Fork();
        Assert.Equal(new KvTruncation(6, 3), fork.Truncate(6));
        fork.FeedMany(100, 10);
        Assert.NotEqual(slot, fork.State.Table.Slot(1, 1));
        var values = new float[16 * 8];
        sequence.Materialize(0, 1, default, values);
        Assert.True(float.IsNaN(values[5 * 8]) && !values.Where((_, i) => i != 5 * 8).Any(float.IsNaN));
        fork.Materialize(0, 1, default, values);
        Assert.True(float.IsNaN(values[5 * 8]), "the copy holds what was kept");
        Assert.Equal([1, 0, 1, 0], Classes(fork, row: 1));
    }

    [Fact]
    public void A_scale_beyond_binary16_keeps_the_page_also_where_no_NaN_is_taken()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(T4));
        using KvSequence sequence = cache.CreateSequence();
        float[] large = [.. Enumerable.Repeat(65504f, 4 * 16)];
        using (KvStep step = sequence.Begin([1, 2, 3, 4]))
        {
            for (int layer = 0; layer < 2; layer++)
            {
                step.Append(layer, large, large);
            }

            step.Commit();
        }

        sequence.FeedMany(5, 8);
        Assert.Equal([0, 1, 0], Classes(sequence, 0));
        (float[] keys, float[] values) = sequence.Materialized(0);
        Assert.All(keys[..64], x => Assert.Equal(65504f, x));
        Assert.All(values[..64], x => Assert.Equal(65504f, x));
    }

    [Fact]
    public void Each_layer_seals_in_its_own_formats_and_counts_its_own_bytes()
    {
        var geometry = new KvGeometry(layers: 4, queryHeads: 2, kvHeads: 2, keyWidth: 16, pageTokens: 4);
        KvCacheOptions config = TestCaches.Config(T4);
        config.LayerFormats = new Dictionary<int, KvFormats> { [0] = new(PageFormat.F32, PageFormat.F32), [3] = new(PageFormat.I8, PageFormat.I8) };
        using KvCache cache = TestCaches.Reference(geometry, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        KvLayouts layouts = KvCache.LayoutsFor(geometry, config);
        long expected = layouts.Sealed.Sum(page => 2L * 9 * page.Bytes) + (4L * 2 * layouts.Open.Bytes);
        Assert.Equal(expected, sequence.AllocatedBytes);
        Assert.Equal(expected, cache.GetPageCounts().ByFormats.Sum(f => f.Bytes));
        Assert.Equal(TokenContent.Keys(geometry, 0, [.. Enumerable.Range(1, 40)]), sequence.Materialized(0).Keys);
    }

    private static int[] Classes(KvSequence sequence, int row) =>
        [.. Enumerable.Range(0, sequence.State.Table.Count(row)).Select(entry => sequence.State.Table.PageClass(row, entry))];

    // One value of layer 0, head 1, token "at" is no number.
    private static void FeedWithNaN(KvSequence sequence, int tokens, int at)
    {
        int[] ids = [.. Enumerable.Range(1, tokens)];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            float[] values = TokenContent.Values(G, layer, ids);
            if (layer == 0)
            {
                values[((at * 2) + 1) * 8] = float.NaN;
            }

            step.Append(layer, TokenContent.Keys(G, layer, ids), values);
        }

        step.Commit();
    }
}
