using KvCacheGpu.Tests.Snapshots;
using static KvCacheGpu.Tests.OutlierTokens;

namespace KvCacheGpu.Tests;

/// <summary>Snapshots bring their scales along.</summary>
public sealed class ScaledSnapshotTests
{
    [Fact]
    public void A_new_cache_takes_over_the_scales_and_goes_on_bit_for_bit()
    {
        SnapshotStore store = LiveCaches.Store();
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 60);
        cache.Saved(store);
        using KvCache other = TestCaches.Simd(G, Options());
        KvRestored restored = other.Restored(store);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(cache.KeyScales!.Fingerprint, other.KeyScales!.Fingerprint);
        Assert.Equal(LiveCaches.Transcript([sequence]), LiveCaches.Transcript(restored.Sequences));
        Assert.Equal(sequence.Go(60, 40), restored.Sequences[0].Go(60, 40));
        Assert.Equal(LiveCaches.Transcript([sequence]), LiveCaches.Transcript(restored.Sequences));
        Assert.DoesNotContain(restored.Sequences[0].Metadata.Keys, key => key.StartsWith("kvcache", StringComparison.Ordinal));

        // The adopted scales hold for others too.
        using KvSequence fresh = other.CreateSequence();
        fresh.Go(200, 40, outliers: 1);
        Assert.Equal(cache.KeyScales.Fingerprint, other.State.ScalesOf(fresh.State.Table)!.Fingerprint);
    }

    [Fact]
    public void A_cache_with_scales_of_its_own_holds_those_of_a_snapshot_beside_them_and_a_third_are_written_anew()
    {
        SnapshotStore store = LiveCaches.Store();
        float[][] expected = [Saved(3, "three"), Saved(4, "four"), Saved(7, "seven")];
        using KvCache cache = TestCaches.Simd(G, Options(Some(3)));
        using KvSequence own = cache.CreateSequence();
        own.Go(0, 60, outliers: 1);
        KvRestored four = cache.Restored(store, "four");
        Assert.True(four.IsExact);
        KvRestored seven = cache.Restored(store, "seven");
        Assert.False(seven.IsExact);
        Assert.Equal(G.Layers * G.KvHeads * 3, seven.ReencodedPages);
        Assert.Contains(seven.Notes, note => note.Contains("other key scales", StringComparison.Ordinal));
        Assert.Equal(expected[0], own.Go(60, 20, outliers: 1));
        Assert.Equal(expected[1], four.Sequences[0].Go(60, 20, outliers: 1));
        Assert.InRange(Off(seven.Sequences[0].Go(60, 20, outliers: 1), expected[2]), 1e-4, 0.5);
        Assert.Equal(Some(3).Fingerprint, cache.KeyScales!.Fingerprint);
        four.Sequences[0].Dispose();
        seven.Sequences[0].Dispose();
        KvRestored again = cache.Restored(store, "seven");
        Assert.True(again.IsExact);
        Assert.Equal(expected[2], again.Sequences[0].Go(60, 20, outliers: 1));

        float[] Saved(int element, string name)
        {
            using KvCache saving = TestCaches.Simd(G, Options(Some(element)));
            using KvSequence sequence = saving.CreateSequence();
            sequence.Go(0, 60, outliers: 1);
            saving.Saved(store, name);
            return sequence.Go(60, 20, outliers: 1);
        }
    }

    [Theory]
    [InlineData(16, PageFormat.I8)]
    [InlineData(16, PageFormat.F32)]
    [InlineData(8, PageFormat.T4)]
    [InlineData(32, PageFormat.T4)]
    public void Pages_of_another_format_or_size_are_decoded_by_the_scales_that_they_were_saved_under(int pageTokens, PageFormat format)
    {
        SnapshotStore store = LiveCaches.Store();
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 60);
        cache.Saved(store);
        var geometry = new KvGeometry(G.Layers, G.QueryHeads, G.Heads, G.KeyWidth, pageTokens: pageTokens) { Rope = G.Rope };
        using KvCache other = TestCaches.Simd(geometry, Options(key: format, value: format == PageFormat.F32 ? format : PageFormat.I8));
        KvRestored restored = other.Restored(store);
        float[] keys = new float[60 * G.KvHeads * G.KeyWidth], values = new float[60 * G.KvHeads * G.ValueWidth];
        restored.Sequences[0].Materialize(1, keys, values);
        Assert.InRange(Off(keys, Keys(1, [.. Enumerable.Range(0, 60)], 16)), 0.01, 0.2);
        Assert.Equal(format == PageFormat.T4 ? cache.KeyScales!.Fingerprint : null, other.State.ScalesOf(restored.Sequences[0].State.Table)?.Fingerprint);
    }

    [Fact]
    public void All_forks_that_list_a_page_which_a_load_writes_in_a_T_format_are_bound_to_its_scales()
    {
        SnapshotStore store = LiveCaches.Store();
        using (KvCache saving = TestCaches.Simd(G, Options(key: PageFormat.I8)))
        using (KvSequence saved = saving.CreateSequence())
        {
            saved.Go(0, 60);
            using KvSequence fork = saved.Fork();
            saving.Saved(store);
        }

        using KvCache cache = TestCaches.Simd(G, Options(Some(3)));
        using KvSequence own = cache.CreateSequence();
        own.Go(0, 60);
        cache.ReplaceKeyScales(Some(4));
        KvRestored restored = cache.Restored(store);
        Assert.All(restored.Sequences, one => Assert.Equal(Some(4).Fingerprint, cache.State.ScalesOf(one.State.Table)?.Fingerprint));
        float[] expected = restored.Sequences[0].Go(60, 20);
        Assert.Equal(expected, restored.Sequences[1].Go(60, 20));
        restored.Sequences[0].Dispose();
        Assert.Throws<KvConcurrencyException>(() => cache.ReplaceKeyScales(Some(7)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Pages_that_stay_in_full_precision_in_a_load_do_not_keep_those_that_follow_from_scales(bool scales)
    {
        var one = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 32, pageTokens: 16);
        KvCacheOptions options = Options(scales ? new KvKeyScales(one, [1, .. new byte[31]]) : null);
        (options.PrefixReuse, options.NonFinite) = (true, NonFinitePolicy.Keep);
        SnapshotStore store = LiveCaches.Store();
        using (KvCache saving = TestCaches.Simd(one, options))
        using (KvSequence saved = saving.CreateSequence())
        {
            Go(saved, 0, 20, float.NaN);
            Assert.True(saved.State.Table.FirstOpen == 1 && saved.State.Table.PageClass(0, 0) == 0);
            saving.Saved(store);
        }

        using KvCache cache = TestCaches.Simd(one, options);
        using KvSequence known = cache.CreateSequence();
        Go(known, 100, 40, 16);
        KvSequence restored = cache.Restored(store).Sequences[0];
        Go(restored, 20, 44, 1);
        Assert.False(cache.KeyScales!.IsNone);
        Assert.Same(cache.KeyScales, cache.State.ScalesOf(restored.State.Table));

        static void Go(KvSequence sequence, int first, int count, float outliers)
        {
            int[] ids = [.. Enumerable.Range(first, count)];
            using KvStep step = sequence.Begin(ids);
            step.Append(0, Keys(sequence.Cache.Geometry, 0, ids, outliers), Values(sequence.Cache.Geometry, 0, ids));
            step.Attend(0, Queries(sequence.Cache.Geometry, 0, ids, float.IsNaN(outliers) ? 1 : outliers), new float[count * 32]);
            step.Commit();
        }
    }

    [Fact]
    public void Scales_of_a_large_model_are_kept_in_pieces_that_a_snapshot_takes()
    {
        var large = new KvGeometry(layers: 64, queryHeads: 16, kvHeads: 16, keyWidth: 128);
        var scales = new KvKeyScales(large, [.. Enumerable.Range(0, 64 * 16 * 128).Select(i => (byte)(i * 7 % 16))]);
        Dictionary<string, string> all = SequenceStanding.WithScales(new Dictionary<string, string> { ["turn"] = "1" }, scales);
        Assert.Equal(4, all.Count);
        Assert.All(all.Values, text => SnapshotLimits.Checked(text, "metadata"));
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence any = cache.CreateSequence();
        using var capture = CacheCapture.Of(cache.State, [any.State], null, default);
        SnapshotSequence saved = capture.Content.Sequences[0] with { Metadata = all };
        Assert.Equal(scales.Fingerprint, SequenceStanding.ScalesOf(saved, large)!.Fingerprint);
        Assert.Equal(["turn"], SequenceStanding.WithScales(all, null).Keys);
        Assert.Throws<KvCorruptionException>(() => SequenceStanding.ScalesOf(saved, G));
    }

    [Theory]
    [InlineData("xyz")]
    [InlineData("012")]
    public async Task Scales_that_are_not_of_the_model_are_refused(string digits)
    {
        SnapshotStore store = LiveCaches.Store();
        using KvCache cache = TestCaches.Simd(G, Options(Some(3)));
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 60);
        using (var capture = CacheCapture.Of(cache.State, [sequence.State], null, default))
        {
            SnapshotContent content = capture.Content;
            var metadata = new Dictionary<string, string>(content.Sequences[0].Metadata) { ["kvcache.key-scales"] = digits };
            await store.SaveAsync("s", content with { Sequences = [content.Sequences[0] with { Metadata = metadata }] }, capture.Read);
        }

        Assert.Throws<KvCorruptionException>(() => cache.Restored(store));
        Assert.Equal(1, Enumerable.Range(0, cache.State.Places).Count(place => cache.State.SequenceAt(place) is not null));
    }
}
