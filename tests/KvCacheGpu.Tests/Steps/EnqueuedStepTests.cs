using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Steps that are committed without waiting: their outcome is taken over by whoever needs one of their sequences next.</summary>
public sealed class EnqueuedStepTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void A_sequence_is_the_same_whether_its_steps_waited_or_not(PageFormat format)
    {
        using KvCache waiting = TestCaches.Simd(G, TestCaches.Config(format));
        using KvCache enqueuing = TestCaches.Simd(G, TestCaches.Config(format));
        using KvSequence expected = waiting.CreateSequence(), sequence = enqueuing.CreateSequence();
        for (int step = 0, at = 0; step < 40; at += 1 + (step % 5), step++)
        {
            int[] ids = [.. Enumerable.Range(at, 1 + (step % 5))];
            expected.Feed(ids);
            Enqueue([sequence], [ids]);
            Assert.Equal(expected.Length, sequence.Length);
            Assert.Equal(expected.TokenIds, sequence.TokenIds);
            if (step % 7 == 6)
            {
                int length = expected.Length - 3;
                Assert.Equal(expected.Truncate(length), sequence.Truncate(length));
                at -= 3;
            }
        }

        for (int layer = 0; layer < G.Layers; layer++)
        {
            Assert.Equal(expected.Materialized(layer), sequence.Materialized(layer));
        }

        Assert.Equal(waiting.GetPageCounts(), enqueuing.GetPageCounts());
        Assert.Equal(waiting.AllocatedBytes, enqueuing.AllocatedBytes);
    }

    [Fact]
    public void The_handle_of_an_enqueued_step_is_dead()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence sequence = cache.CreateSequence();
        KvStep step = sequence.Begin([1]);
        Assert.Throws<KvStepOrderException>(() => step.EnqueueCommit());
        TestCaches.AppendAll(step, G, [1]);
        step.EnqueueCommit();
        Assert.Throws<ObjectDisposedException>(() => step.Commit());
        Assert.Throws<ObjectDisposedException>(() => step.EnqueueCommit());
        Assert.Throws<ObjectDisposedException>(() => _ = step.Tokens);
        step.Dispose();
        Assert.Equal(1, sequence.Length);
        cache.Settle();
        Assert.Equal([1], sequence.TokenIds);
    }

    [Fact]
    public void A_refused_step_is_told_once_to_each_of_its_sequences()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence(), third = cache.CreateSequence();
        Enqueue([first, second, third], [[1, 2], [3], [4]]);
        Enqueue([first, second], [[5], [6]], nan: true);
        Assert.Equal((3, 2), (first.Length, second.Length));
        Enqueue([third], [[7]]);

        KvNonFiniteException refused = Assert.Throws<KvNonFiniteException>(() => second.Begin([8]));
        Assert.Equal((1, 1), (refused.Layer, refused.Token));
        Assert.Equal((2, 1, 2), (first.Length, second.Length, third.Length));
        Assert.Equal([1, 2], first.TokenIds);
        second.Feed(8);
        Assert.Throws<KvNonFiniteException>(() => first.Truncate(1));
        first.Feed(9);
        cache.Settle();
        Assert.Equal([1, 2, 9], first.TokenIds);
        Assert.Equal([3, 8], second.TokenIds);
        Assert.Equal([4, 7], third.TokenIds);
    }

    [Fact]
    public void Settle_tells_of_each_refused_step_once()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence(), third = cache.CreateSequence();
        Enqueue([first, second], [[1], [2]], nan: true);
        Enqueue([third], [[3]], nan: true);
        Assert.Throws<KvNonFiniteException>(cache.Settle);
        Assert.Throws<KvNonFiniteException>(cache.Settle);
        cache.Settle();
        Assert.Equal((0, 0, 0), (first.Length, second.Length, third.Length));
        first.Feed(1);
        second.Feed(2);
    }

    [Fact]
    public void A_sequence_that_is_disposed_takes_no_tokens_from_the_others()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence stays = cache.CreateSequence();
        KvSequence goes = cache.CreateSequence();
        Enqueue([goes, stays], [[1, 2, 3, 4, 5], [6, 7]]);
        goes.Dispose();
        Assert.Equal([6, 7], stays.TokenIds);
        stays.Feed(8);
        Assert.Equal(3, stays.Length);
        Enqueue([stays], [[9]]);
        cache.Dispose();
    }

    [Fact]
    public void What_enqueued_steps_hold_is_given_back_before_a_step_is_refused_or_tokens_are_evicted()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64, maxSequences: 2);
        config.MemoryBudgetBytes = KvCache.BytesFor(G, config).MinimumBytes;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        int alone = 0;
        while (sequence.TryBegin([alone], out KvStep step))
        {
            Append(step, [alone++], nan: false);
            step.Commit();
        }

        sequence.Truncate(0);
        using KvSequence other = cache.CreateSequence();
        for (int id = 0; id < alone / 2; id++)
        {
            Enqueue([sequence], [[id]]);
            if (other.TryBegin([id], out KvStep step))
            {
                Append(step, [id], nan: false);
                step.EnqueueCommit();
            }
        }

        Assert.Equal(alone / 2, sequence.Length);
        Assert.True(other.Length > 0, "the other found no room");
    }

    [Fact]
    public async Task A_save_takes_the_tokens_of_enqueued_steps()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence sequence = cache.CreateSequence();
        string folder = Directory.CreateTempSubdirectory("enqueued-").FullName;
        var store = new SnapshotStore(folder, SnapshotSample.Inline);
        Enqueue([sequence], [[1, 2, 3, 4, 5, 6]]);
        await cache.SaveAsync(store, "all");
        KvRestored restored = await cache.LoadAsync(store, "all");
        Assert.Equal([1, 2, 3, 4, 5, 6], restored.Sequences[0].TokenIds);
        Assert.Equal(sequence.Materialized(1), restored.Sequences[0].Materialized(1));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_policy_evicts_when_the_outcome_is_taken_over()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64);
        config.Policy = new H2oPolicy { SinkTokens = 4, WindowTokens = 4 };
        config.MemoryBudgetBytes = KvCache.BytesFor(G, config).MinimumBytes + 4096;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < 60; id++)
        {
            Enqueue([sequence], [[id]]);
        }

        Assert.Equal(60, sequence.Length);
        Assert.True(sequence.EvictedTokens > 0);
        Assert.True(cache.AllocatedBytes <= cache.BudgetBytes);
    }

    [Fact]
    public void A_stream_on_the_host_is_unsupported()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence sequence = cache.CreateSequence();
        Assert.Throws<KvUnsupportedException>(() => sequence.Begin([1], KvStream.FromCuda(0)));
        sequence.Feed(1);
    }

    private static void Enqueue(KvSequence[] sequences, int[][] ids, bool nan = false)
    {
        int[] all = [.. ids.SelectMany(x => x)];
        using KvStep step = sequences[0].Cache.Begin(sequences, all, [.. ids.Select(x => x.Length)]);
        Append(step, all, nan);
        step.EnqueueCommit();
    }

    private static void Append(KvStep step, int[] ids, bool nan)
    {
        for (int layer = 0; layer < G.Layers; layer++)
        {
            float[] keys = TokenContent.Keys(G, layer, ids);
            keys[^1] = nan && layer == 1 ? float.NaN : keys[^1];
            step.Append(layer, keys, TokenContent.Values(G, layer, ids));
            step.Attend(layer, TokenContent.Queries(G, layer, ids), new float[ids.Length * G.QueryHeads * G.ValueWidth]);
        }
    }
}
