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
            Assert.Equal(expected.Materialized(layer).Keys, sequence.Materialized(layer).Keys);
            Assert.Equal(expected.Materialized(layer).Values, sequence.Materialized(layer).Values);
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
    public void A_step_of_several_sequences_is_told_once_of_a_step_that_was_refused()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence(), third = cache.CreateSequence();
        Enqueue([first, second, third], [[1], [2], [3]], nan: true);
        Assert.Throws<KvNonFiniteException>(() => cache.Begin([first, second], [4, 5], [1, 1]));
        Enqueue([first, second], [[4], [5]]);
        Assert.Throws<KvNonFiniteException>(() => third.Begin([6]));
        Assert.Equal((1, 1, 0), (first.Length, second.Length, third.Length));
    }

    [Fact]
    public void Steps_on_many_sequences_wait_for_their_outcome_in_the_working_memory_of_few()
    {
        KvCacheOptions config = TestCaches.Config(maxSequences: 16);
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence[] sequences = [.. Enumerable.Range(0, 16).Select(_ => cache.CreateSequence())];
        long before = cache.BudgetBytes;
        foreach (KvSequence sequence in sequences)
        {
            Enqueue([sequence], [[1]]);
        }

        // Without a configured budget, working memory beyond the first is added to it.
        long step = KvCache.BytesFor(G, config).CreatedBytes;
        Assert.InRange(cache.BudgetBytes - before, 0, Unsettled.Most * step);
        Assert.All(sequences, sequence => Assert.Equal(1, sequence.Length));
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
    public void A_cache_holds_as_much_whether_its_steps_waited_or_not()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64, maxSequences: 2);
        config.MemoryBudgetBytes = KvCache.BytesFor(G, config).MinimumBytes + 2048;
        int expected = Fill(config, step => step.Commit());
        Assert.True(expected > 8, $"{expected} tokens");
        Assert.Equal(expected, Fill(config, step => step.EnqueueCommit()));
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
        Assert.Equal(sequence.Materialized(1).Keys, restored.Sequences[0].Materialized(1).Keys);
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

    // Two sequences grow in turn until a step is refused: what steps that wait for their outcome hold is given back before.
    private static int Fill(KvCacheOptions config, Action<KvStep> commit)
    {
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence()];
        int tokens = 0;
        while (sequences[tokens % 2].TryBegin([tokens], out KvStep step))
        {
            Append(step, [tokens++], nan: false);
            commit(step);
        }

        return tokens;
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
