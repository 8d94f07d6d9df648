using KvCacheGpu.Tests.Snapshots;
using static KvCacheGpu.Tests.OutlierTokens;

namespace KvCacheGpu.Tests;

/// <summary>What was refused, called off or empty teaches no scales, and binds no sequence to any.</summary>
public sealed class UntaughtTests
{
    [Fact]
    public void A_step_that_is_refused_leaves_its_sequence_free_for_other_scales()
    {
        KvCacheOptions options = Options();
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence(), second = cache.CreateSequence();
        Assert.Throws<KvNonFiniteException>(() => sequence.Go(0, 60, outliers: float.NaN));
        Assert.Null(cache.State.ScalesOf(sequence.State.Table));
        sequence.Go(0, 60);
        Assert.Same(cache.KeyScales!, cache.State.ScalesOf(sequence.State.Table));
        Assert.Equal(48, second.Reuse([.. Enumerable.Range(0, 64)]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_step_that_is_refused_once_scales_are_known_frees_their_table(bool isEnqueued)
    {
        KvCacheOptions options = Options(Some(3));
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence(), other = cache.CreateSequence(), second = cache.CreateSequence();
        Assert.Throws<KvNonFiniteException>(() => Refused(sequence, isEnqueued));
        cache.ReplaceKeyScales(KvKeyScales.None(G));
        other.Go(100, 40);
        sequence.Go(0, 60);
        Assert.True(cache.State.ScalesOf(sequence.State.Table)!.IsNone);
        Assert.Equal(48, second.Reuse([.. Enumerable.Range(0, 64)]));
        cache.ReplaceKeyScales(Some(4));

        static void Refused(KvSequence sequence, bool isEnqueued)
        {
            int[] ids = [.. Enumerable.Range(0, 60)];
            using (KvStep step = sequence.Begin(ids))
            {
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    step.Append(layer, Keys(layer, ids, float.NaN), Values(layer, ids));
                }

                if (isEnqueued)
                {
                    step.EnqueueCommit();
                }
                else
                {
                    step.Commit();
                }
            }

            sequence.Truncate(0);
        }
    }

    [Fact]
    public void A_prompt_of_which_nothing_is_found_binds_its_sequence_to_nothing()
    {
        KvCacheOptions options = Options(Some(3));
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence(), second = cache.CreateSequence();
        int[] ids = [.. Enumerable.Range(0, 64)];
        Assert.Equal(0, sequence.Reuse(ids));
        cache.ReplaceKeyScales(KvKeyScales.None(G));
        sequence.Go(0, 64);
        Assert.True(cache.State.ScalesOf(sequence.State.Table)!.IsNone);
        Assert.Equal(48, second.Reuse(ids));
        Assert.True(cache.State.ScalesOf(second.State.Table)!.IsNone);
    }

    [Fact]
    public void A_sequence_that_was_cut_to_nothing_comes_under_the_new_scales()
    {
        KvCacheOptions options = Options(Some(3));
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence(), second = cache.CreateSequence();
        sequence.Go(0, 64);
        sequence.Truncate(0);
        cache.ReplaceKeyScales(Some(4));
        sequence.Go(0, 64);
        Assert.Equal(Some(4).Fingerprint, cache.State.ScalesOf(sequence.State.Table)!.Fingerprint);
        Assert.Equal(48, second.Reuse([.. Enumerable.Range(0, 64)]));
        Assert.Equal(sequence.Go(64, 4), Continued(second));

        static float[] Continued(KvSequence second)
        {
            second.Go(48, 16);
            return second.Go(64, 4);
        }
    }

    [Fact]
    public void Zeros_teach_nothing()
    {
        using KvCache cache = TestCaches.Simd(G, Options());
        using (KvSequence empty = cache.CreateSequence())
        {
            using KvStep step = empty.Begin(new int[40]);
            for (int layer = 0; layer < G.Layers; layer++)
            {
                step.Append(layer, new float[40 * G.KvHeads * G.KeyWidth], new float[40 * G.KvHeads * G.ValueWidth]);
                step.Attend(layer, new float[40 * G.QueryHeads * G.KeyWidth], new float[40 * G.QueryHeads * G.ValueWidth]);
            }

            step.Commit();
            Assert.Null(cache.KeyScales);
        }

        using KvSequence next = cache.CreateSequence();
        next.Go(0, 40);
        Assert.InRange(cache.KeyScales!.Exponents[6], 3, 5);
    }

    [Fact]
    public void A_load_that_is_called_off_leaves_the_learning_to_the_cache()
    {
        SnapshotStore store = LiveCaches.Store();
        using (KvCache saving = TestCaches.Simd(G, Options(Some(7))))
        using (KvSequence saved = saving.CreateSequence())
        {
            saved.Go(0, 60);
            saving.Saved(store);
        }

        using KvCache cache = TestCaches.Simd(G, Options());
        using var calledOff = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => cache.LoadAsync(store, "s", progress: new CallsOff(calledOff), cancellationToken: calledOff.Token).GetAwaiter().GetResult());
        Assert.Null(cache.KeyScales);
        using KvSequence sequence = cache.CreateSequence();
        sequence.Go(0, 60);
        Assert.InRange(cache.KeyScales!.Exponents[6], 3, 5);
        Assert.True(cache.Restored(store).IsExact);
    }

    private sealed class CallsOff(CancellationTokenSource source) : IProgress<SnapshotProgress>
    {
        public void Report(SnapshotProgress value) => source.Cancel();
    }
}
