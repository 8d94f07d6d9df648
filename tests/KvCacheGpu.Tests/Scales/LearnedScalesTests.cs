using static KvCacheGpu.Tests.OutlierTokens;

namespace KvCacheGpu.Tests;

/// <summary>Scales that a cache learns, or is given: when, from what, for whom.</summary>
public sealed class LearnedScalesTests
{
    [Theory]
    [InlineData(PageFormat.T4, 4)]
    [InlineData(PageFormat.T3, 4)]
    [InlineData(PageFormat.T2, 3)]
    public void Keys_with_outliers_cost_no_more_than_keys_without(PageFormat format, double worseWithout)
    {
        double plain = Error(format, 1, null), outliers = Error(format, 16, null), unscaled = Error(format, 16, KvKeyScales.None(G));
        Assert.True(outliers <= 1.1 * plain, $"{outliers} with outliers, {plain} without");
        Assert.True(unscaled >= worseWithout * outliers, $"{unscaled} without scales, {outliers} with them");
    }

    [Fact]
    public void Scales_are_learned_in_the_commit_that_seals_the_first_page_and_then_stay()
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        Assert.Null(cache.KeyScales);
        sequence.Go(0, 19);
        Assert.Null(cache.KeyScales);
        sequence.Go(19, 1);
        KvKeyScales learned = cache.KeyScales!;
        Assert.Equal([0, 0, 0, 0], Enumerable.Range(0, 4).Select(row => (int)learned.Exponents[(row * 32) + 5]));
        Assert.All(Enumerable.Range(0, 4), row => Assert.InRange(learned.Exponents[(row * 32) + 6], 3, 5));
        Assert.All(Enumerable.Range(0, 4), row => Assert.Equal(learned.Exponents[(row * 32) + 6], learned.Exponents[(row * 32) + 22]));
        sequence.Go(100, 60, outliers: 1);
        Assert.Same(learned, cache.KeyScales);
    }

    [Fact]
    public void A_prompt_without_queries_has_scales_of_1_and_leaves_the_learning_to_the_next()
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence silent = cache.CreateSequence();
        silent.Go(0, 40, attends: false);
        Assert.Null(cache.KeyScales);
        Assert.True(cache.State.ScalesOf(silent.State.Table)!.IsNone);
        using KvSequence next = cache.CreateSequence();
        next.Go(0, 40);
        Assert.False(cache.KeyScales!.IsNone);
        Assert.Same(cache.KeyScales, cache.State.ScalesOf(next.State.Table));

        // Both in one batch, each under its own.
        float[] together = new float[2 * G.QueryHeads * G.ValueWidth];
        cache.Attend([silent, next], 0, Queries(0, [7, 7], 16), together);
        float[][] alone = [new float[together.Length / 2], new float[together.Length / 2]];
        cache.Attend([silent], 0, Queries(0, [7], 16), alone[0]);
        cache.Attend([next], 0, Queries(0, [7], 16), alone[1]);
        Assert.Equal([.. alone[0], .. alone[1]], together);
        Assert.NotEqual(alone[0], alone[1]);
    }

    [Fact]
    public void Numbers_that_are_none_teach_nothing()
    {
        KvCacheOptions options = Options();
        options.NonFinite = NonFinitePolicy.Keep;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence broken = cache.CreateSequence(), next = cache.CreateSequence();
        broken.Go(0, 40, outliers: float.NaN);
        Assert.Null(cache.KeyScales);
        next.Go(0, 40);
        Assert.InRange(cache.KeyScales!.Exponents[6], 3, 5);
    }

    [Fact]
    public void Given_scales_are_used_and_nothing_is_learned()
    {
        KvKeyScales some = Some(3);
        using KvCache cache = TestCaches.Simd(G, Options(some));
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 40);
        Assert.Same(some, cache.KeyScales);
        Assert.Same(some, cache.Options.KeyScales);
        var other = new KvGeometry(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 64);
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => TestCaches.Simd(other, Options(some)));
        Assert.Contains("KeyScales", refused.Message, StringComparison.Ordinal);
        Assert.Contains("key width of 64", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(24, -1, 16, 1)]
    [InlineData(40, 24, 16, 1)]
    [InlineData(576, 64, 16, 1)]
    [InlineData(32, 0, 1, 1)]
    [InlineData(32, 0, 2, 1)]
    [InlineData(32, 16, 1024, 1)]
    [InlineData(32, 0, 16, 9)]
    public void Models_of_any_width_page_and_depth_learn_and_read_their_keys_back(int width, int turned, int pageTokens, int layers)
    {
        var model = new KvGeometry(layers, queryHeads: 2, kvHeads: 1, keyWidth: width, valueWidth: 32, pageTokens: pageTokens)
        {
            Rope = turned < 0 ? null : new KvRope { Width = turned },
        };
        KvCacheOptions options = Options();
        (options.MaxTokens, options.MaxSequences) = (4096, 2);
        using KvCache cache = TestCaches.Simd(model, options);
        using KvSequence sequence = cache.CreateSequence();
        int tokens = Math.Max(64, (pageTokens + 63) / 64 * 64) + 64;
        for (int first = 0; first < tokens; first += 64)
        {
            int[] ids = [.. Enumerable.Range(first, 64)];
            using KvStep step = sequence.Begin(ids);
            for (int layer = 0; layer < layers; layer++)
            {
                step.Append(layer, Keys(model, layer, ids, 16), Values(model, layer, ids));
                step.Attend(layer, Queries(model, layer, ids, 16), new float[64 * 2 * 32]);
            }

            step.Commit();
        }

        Assert.Same(cache.KeyScales!, cache.State.ScalesOf(sequence.State.Table));
        for (int layer = 0; layer < layers; layer++)
        {
            bool isScaled = cache.State.Classes.Shape.Classes[sequence.State.Table.PageClass(layer, 0)].KeyFormat == PageFormat.T4;
            Assert.Equal(layers < 8 || layer is >= 2 and < 7, isScaled);
            Assert.True(isScaled || !cache.KeyScales!.Exponents.Slice(layer * width, width).ContainsAnyExcept((byte)0));
            float[] keys = new float[tokens * width], values = new float[tokens * 32];
            sequence.Materialize(layer, keys, values);
            Assert.InRange(Off(keys, Keys(model, layer, [.. Enumerable.Range(0, tokens)], 16)), 0, 0.2);
        }
    }

    [Fact]
    public void Caches_without_T_formats_have_no_scales()
    {
        using KvCache cache = TestCaches.Simd(G, Options(key: PageFormat.I8));
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 40);
        Assert.Null(cache.KeyScales);
        Assert.Throws<KvUnsupportedException>(() => cache.ReplaceKeyScales(null));
    }

    [Fact]
    public void Two_tables_live_at_once_and_a_third_waits_until_one_is_free()
    {
        using KvCache cache = TestCaches.Simd(G, Options(Some(3)));
        KvSequence first = cache.CreateSequence();
        first.Go(0, 40);
        cache.ReplaceKeyScales(Some(4));
        using KvSequence second = cache.CreateSequence();
        second.Go(0, 40);
        KvConcurrencyException busy = Assert.Throws<KvConcurrencyException>(() => cache.ReplaceKeyScales(Some(7)));
        Assert.Equal("E006", busy.Code);
        Assert.Throws<KvConcurrencyException>(() => cache.ReplaceKeyScales(null));
        Assert.Equal(Some(4).Fingerprint, cache.KeyScales!.Fingerprint);
        float[] before = first.Go(40, 8);
        Assert.Equal(Some(3).Fingerprint, cache.State.ScalesOf(first.State.Table)!.Fingerprint);
        using (KvCache alone = TestCaches.Simd(G, Options(Some(3))))
        using (KvSequence same = alone.CreateSequence())
        {
            same.Go(0, 40);
            Assert.Equal(same.Go(40, 8), before);
        }

        first.Dispose();
        cache.ReplaceKeyScales(null);
        Assert.Null(cache.KeyScales);
        using KvSequence third = cache.CreateSequence();
        third.Go(0, 40);
        Assert.InRange(cache.KeyScales!.Exponents[6], 3, 5);
        Assert.Throws<ArgumentException>(() => cache.ReplaceKeyScales(KvKeyScales.None(TestCaches.Tiny)));
    }

    private static double Error(PageFormat format, float outliers, KvKeyScales? scales)
    {
        using KvCache cache = TestCaches.Simd(G, Options(scales, format));
        using KvCache exact = TestCaches.Simd(G, Options(null, PageFormat.F32, PageFormat.F32));
        using KvSequence sequence = cache.CreateSequence(), truth = exact.CreateSequence();
        for (int at = 0; at < 256; at += 32)
        {
            sequence.Go(at, 32, outliers);
            truth.Go(at, 32, outliers);
        }

        return Off(sequence.Go(256, 32, outliers), truth.Go(256, 32, outliers));
    }
}
