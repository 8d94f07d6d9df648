using KvCacheGpu.Tests.Snapshots;
using static KvCacheGpu.Tests.OutlierTokens;

namespace KvCacheGpu.Tests;

/// <summary>Forks, truncation, demotion, reuse and digests of sequences across the moment at which scales are learned or replaced.</summary>
public sealed class BoundSequencesTests
{
    [Fact]
    public void A_fork_from_before_the_learning_and_one_from_after_it_go_on_as_the_sequence_does()
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 18);
        using KvSequence early = sequence.Fork();
        sequence.Go(18, 14);
        Assert.NotNull(cache.KeyScales);
        Assert.Null(cache.State.ScalesOf(early.State.Table));
        early.Go(18, 14);
        using KvSequence late = sequence.Fork();
        Assert.Same(cache.KeyScales, cache.State.ScalesOf(late.State.Table));
        float[] expected = sequence.Go(32, 20);
        Assert.Equal(expected, early.Go(32, 20));
        Assert.Equal(expected, late.Go(32, 20));
    }

    [Fact]
    public void A_fork_from_before_a_change_seals_under_the_new_scales_and_the_sequence_under_its_own()
    {
        using KvCache cache = TestCaches.Simd(G, Options(Some(3)));
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 18);
        using KvSequence fork = sequence.Fork();
        sequence.Go(18, 30);
        cache.ReplaceKeyScales(Some(4));
        fork.Go(18, 30);
        Assert.Equal(Some(3).Fingerprint, cache.State.ScalesOf(sequence.State.Table)!.Fingerprint);
        Assert.Equal(Some(4).Fingerprint, cache.State.ScalesOf(fork.State.Table)!.Fingerprint);
        foreach ((KvSequence of, KvKeyScales scales) in ((KvSequence, KvKeyScales)[])[(sequence, Some(3)), (fork, Some(4))])
        {
            using KvCache alone = TestCaches.Simd(G, Options(scales));
            using KvSequence same = alone.CreateSequence();
            same.Go(0, 18);
            same.Go(18, 30);
            Assert.Equal(same.Go(60, 20), of.Go(60, 20));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_sealed_page_that_is_cut_opens_in_the_plain_basis_and_is_sealed_again(bool replaces)
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 48);
        sequence.Truncate(8);
        if (replaces)
        {
            cache.ReplaceKeyScales(Some(4));
        }

        sequence.Go(8, 40);
        float[] keys = new float[48 * G.KvHeads * G.KeyWidth], values = new float[48 * G.KvHeads * G.ValueWidth];
        sequence.Materialize(1, keys, values);
        Assert.InRange(Off(keys, Keys(1, [.. Enumerable.Range(0, 48)], 16)), 0.01, 0.14);
    }

    [Theory]
    [InlineData(PageFormat.I8, PageFormat.T4)]
    [InlineData(PageFormat.F32, PageFormat.T4)]
    [InlineData(PageFormat.T4, PageFormat.T2)]
    public void Pages_are_demoted_under_the_sequences_scales(PageFormat from, PageFormat to)
    {
        KvCacheOptions options = Options(key: from, value: from == PageFormat.F32 ? PageFormat.F32 : PageFormat.I8);
        options.DemotionFormats = [new KvFormats(to, PageFormat.I8)];
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 60);
        Assert.Equal(from == PageFormat.T4, cache.KeyScales is not null);
        using KvSequence fork = sequence.Fork();
        for (int row = 0; row < G.Layers * G.KvHeads; row++)
        {
            Assert.True(sequence.Demote(row / 2, row % 2, 1, options.DemotionFormats[0]));
        }

        Assert.InRange(cache.KeyScales!.Exponents[6], 3, 5);
        float[] keys = new float[60 * G.KvHeads * G.KeyWidth], values = new float[60 * G.KvHeads * G.ValueWidth];
        sequence.Materialize(0, keys, values);
        int page = 16 * G.KvHeads * G.KeyWidth;
        Span<float> own = keys.AsSpan(page, page);
        float[] truth = Keys(0, [.. Enumerable.Range(16, 16)], 16);
        Assert.InRange(Off(own, truth), 0.01, to == PageFormat.T4 ? 0.14 : 0.5);

        // Each element has the error of its own size, not of the outliers'.
        Assert.InRange(Off(Plain(own), Plain(truth)), 0.01, to == PageFormat.T4 ? 0.16 : 0.6);
        Assert.Equal(60, fork.Length);
        Assert.InRange(Off(sequence.Go(60, 8), fork.Go(60, 8)), 1e-4, to == PageFormat.T4 ? 0.1 : 0.3);

        static float[] Plain(ReadOnlySpan<float> all)
        {
            var plain = new List<float>();
            for (int i = 0; i < all.Length; i++)
            {
                if (i % 16 is not (5 or 11))
                {
                    plain.Add(all[i]);
                }
            }

            return [.. plain];
        }
    }

    [Fact]
    public void Prefixes_are_shared_under_the_same_scales_alone()
    {
        KvCacheOptions options = Options(Some(3));
        (options.PrefixReuse, options.PrefixEvents) = (true, true);
        using KvCache cache = TestCaches.Simd(G, options);
        int[] ids = [.. Enumerable.Range(0, 64)];
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 64);
        using KvSequence same = cache.CreateSequence();
        Assert.Equal(48, same.Reuse(ids));
        same.Go(48, 16);
        Assert.Equal(sequence.Go(64, 4), same.Go(64, 4));
        cache.ReplaceKeyScales(Some(4));
        using KvSequence other = cache.CreateSequence();
        Assert.Equal(0, other.Reuse(ids));
        other.Go(0, 64);
        using KvSequence second = cache.CreateSequence();
        Assert.Equal(48, second.Reuse(ids));
        Assert.Equal(Some(4).Fingerprint, cache.State.ScalesOf(second.State.Table)!.Fingerprint);
        Assert.Equal(HashesOf(Some(3))[0], Chain(Some(3), ids[..16]));
        Assert.Empty(HashesOf(Some(3)).Intersect(HashesOf(Some(4))));
        Assert.Equal(HashesOf(Some(3)), HashesOf(Some(3)));

        BlockHash[] HashesOf(KvKeyScales scales)
        {
            KvCacheOptions own = options.Copy();
            own.KeyScales = scales;
            using KvCache alone = TestCaches.Simd(G, own);
            using KvSequence of = alone.CreateSequence();
            of.Go(0, 64);
            return [.. alone.TakePrefixEvents().SelectMany(e => e.Hashes.ToArray())];
        }

        BlockHash Chain(KvKeyScales scales, int[] block) =>
            BlockHash.Next(cache.State.NamespaceOf(KvSequenceOptions.Default, scales).ToHash(), block);
    }

    [Fact]
    public void What_was_sealed_before_the_learning_is_found_before_it_and_never_after()
    {
        KvCacheOptions options = Options();
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, options);
        int[] ids = [.. Enumerable.Range(0, 64)];
        using KvSequence silent = cache.CreateSequence();
        silent.Go(0, 64, attends: false);
        using KvSequence early = cache.CreateSequence();
        Assert.Equal(48, early.Reuse(ids));
        using KvSequence learning = cache.CreateSequence();
        learning.Go(100, 40);
        Assert.NotNull(cache.KeyScales);
        using KvSequence late = cache.CreateSequence();
        Assert.Equal(0, late.Reuse(ids));
        early.Go(48, 16, attends: false);
        Assert.Equal(silent.Go(64, 8), early.Go(64, 8));
    }

    [Fact]
    public async Task Threads_that_learn_replace_fork_and_reuse_read_what_they_wrote_and_leave_both_tables_free()
    {
        KvCacheOptions options = Options();
        (options.PrefixReuse, options.MaxSequences, options.MaxTokens) = (true, 16, 4096);
        using KvCache cache = TestCaches.Simd(G, options);
        int refused = 0;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(thread => Task.Run(() => Work(thread))));
        for (int element = 0; element < 4; element++)
        {
            cache.ReplaceKeyScales(Some(element));
            using KvSequence sequence = cache.CreateSequence();
            sequence.Go(0, 40);
        }

        void Work(int thread)
        {
            var random = new Random(thread);
            for (int round = 0; round < 12; round++)
            {
                try
                {
                    cache.ReplaceKeyScales(random.Next(3) == 0 ? null : Some(random.Next(3)));
                }
                catch (KvConcurrencyException)
                {
                    Interlocked.Increment(ref refused);
                }

                using KvSequence sequence = cache.CreateSequence();
                int first = 100 * random.Next(2);
                int found = sequence.Reuse([.. Enumerable.Range(first, 64)]);
                sequence.Go(first + found, 64 - found);
                using KvSequence fork = sequence.Fork();
                if (random.Next(2) == 0)
                {
                    sequence.Truncate(24);
                    sequence.Go(first + 24, 40);
                }

                foreach (KvSequence one in (KvSequence[])[sequence, fork])
                {
                    float[] keys = new float[64 * G.KvHeads * G.KeyWidth], values = new float[64 * G.KvHeads * G.ValueWidth];
                    one.Materialize(1, keys, values);
                    Assert.InRange(Off(keys, Keys(1, [.. Enumerable.Range(first, 64)], 16)), 0.001, 0.3);
                }
            }
        }
    }

    [Fact]
    public void Pages_are_scored_merged_and_dropped_alike_under_either_table()
    {
        KvCacheOptions options = Options(Some(4));
        (options.MergePages, options.Policy) = (true, new ExpectedAttentionPolicy());
        options.MemoryBudgetBytes = KvCache.BytesFor(G, options).MinimumBytes + 65_536;
        (string first, float[] firstOutput) = Run(isFirst: true);
        (string second, float[] secondOutput) = Run(isFirst: false);
        Assert.Equal(first, second);
        Assert.Equal(firstOutput, secondOutput);

        (string Transcript, float[] Output) Run(bool isFirst)
        {
            KvCacheOptions own = options.Copy();
            own.KeyScales = isFirst ? Some(4) : Some(3);
            using KvCache cache = TestCaches.Simd(G, own);
            using KvSequence sequence = cache.CreateSequence();
            using (KvSequence before = cache.CreateSequence())
            {
                before.Go(500, 40);
                if (!isFirst)
                {
                    cache.ReplaceKeyScales(Some(4));
                }

                sequence.Go(0, 40);
            }

            Assert.Equal(isFirst ? 0 : 1, sequence.State.Table.KeyTable);
            float[] output = [];
            for (int at = 40; at < 520; at += 16)
            {
                output = sequence.Go(at, 16);
            }

            Assert.True(sequence.EvictedTokens > 0);
            return (LiveCaches.Transcript([sequence]), output);
        }
    }

    [Fact]
    public void A_digest_tells_the_mean_key_as_it_was_appended()
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 40);
        float[] mean = new float[G.KeyWidth], deviation = new float[G.KeyWidth];
        Assert.True(sequence.PageDigest(1, 1, 0, mean, deviation));
        float[] keys = Keys(1, [.. Enumerable.Range(0, 16)], 16);
        float[] truth = [.. Enumerable.Range(0, G.KeyWidth).Select(i => Enumerable.Range(0, 16).Average(t => keys[(((t * G.KvHeads) + 1) * G.KeyWidth) + i]))];
        Assert.InRange(Off(mean, truth), 0, 0.25);
    }
}
