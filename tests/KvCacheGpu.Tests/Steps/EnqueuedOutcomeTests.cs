using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>The moment at which the outcome of an enqueued step is taken over: by whom, beside what, and what an error there leaves.</summary>
public sealed class EnqueuedOutcomeTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData("cache")]
    [InlineData("sequence")]
    [InlineData("truncate")]
    [InlineData("pin")]
    [InlineData("settle")]
    public async Task A_policy_that_is_asked_then_is_refused_as_in_a_commit(string what)
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = policy;
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence();
        Exception? inside = null;
        policy.Call = () => inside ??= Record.Exception(what switch
        {
            "cache" => cache.Dispose,
            "sequence" => sequence.Dispose,
            "truncate" => () => sequence.Truncate(0),
            "pin" => () => sequence.Pin(0, 1),
            _ => cache.Settle,
        });
        Enqueue(sequence, 1);
        await Task.Run(cache.Settle).WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(what == "settle" ? null : "E006", (inside as KvConcurrencyException)?.Code);
        policy.Call = () => { };
        sequence.Feed(2);
        Assert.Equal([1, 2], sequence.TokenIds);
    }

    [Fact]
    public async Task A_policy_that_throws_while_a_save_takes_the_outcome_leaves_the_sequence_usable()
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = policy;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        Enqueue(sequence, 1);
        policy.Call = () => throw new InvalidOperationException("policy");
        string folder = Directory.CreateTempSubdirectory("enqueued-").FullName;
        var store = new SnapshotStore(folder, SnapshotSample.Inline);
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await cache.SaveAsync(store, "all"));
        policy.Call = () => { };
        await Task.Run(() => sequence.Feed(2)).WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal([1, 2], sequence.TokenIds);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_policy_that_throws_while_a_cache_is_disposed_keeps_no_memory()
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = policy;
        KvCache cache = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence(), second = cache.CreateSequence();
        Enqueue(sequence, 1);
        policy.Call = () => throw new InvalidOperationException("policy");
        Assert.Throws<InvalidOperationException>(sequence.Dispose);
        Assert.Throws<ObjectDisposedException>(() => sequence.Length);
        Assert.Equal(1, cache.State.FreePlaces() - 2);
        policy.Call = () => { };
        Enqueue(second, 2);
        policy.Call = () => throw new InvalidOperationException("policy");
        Assert.Throws<InvalidOperationException>(cache.Dispose);
        Assert.Equal((0, 0), (cache.AllocatedBytes, cache.ReservedBytes));
    }

    [Theory]
    [InlineData("end")]
    [InlineData("has finished")]
    public void An_error_of_the_device_is_told_to_the_sequences_of_the_step_and_not_to_who_settles_it(string call)
    {
        string? fails = null, asked = null;
        var failure = new InvalidOperationException("the device fell off");
        using KvCache cache = Hooked(what => _ = what == fails || what == asked ? throw failure : 0);
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence(), other = cache.CreateSequence();
        KvPageCounts before = cache.GetPageCounts();
        KvStep step = cache.Begin([first, second], [1, 2], [1, 1]);
        TestCaches.AppendAll(step, G, [1, 2]);
        step.EnqueueCommit();
        fails = "end";
        asked = call;
        using (KvStep unrelated = other.Begin([3]))
        {
            (fails, asked) = (null, null);
        }

        Assert.Equal((0, 0), (first.Length, second.Length));
        Assert.Equal(before, cache.GetPageCounts());
        Assert.Same(failure, Assert.Throws<InvalidOperationException>(() => first.Begin([1])));
        Assert.Same(failure, Assert.Throws<InvalidOperationException>(cache.Settle));
        cache.Settle();
        first.Feed(1);
        second.Feed(2);
    }

    [Fact]
    public async Task Settle_waits_for_a_thread_that_takes_an_outcome_over()
    {
        var gate = new Rendezvous();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = gate;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence(), other = cache.CreateSequence();
        Enqueue(sequence, 1);
        Task beginning = Task.Run(() => other.Begin([1]).Dispose());
        Assert.True(gate.Inside.Wait(TimeSpan.FromSeconds(20)));
        Task settling = Task.Run(cache.Settle);
        Task first = await Task.WhenAny(settling, Task.Delay(200));
        gate.Leave.Set();
        Assert.NotSame(settling, first);
        await beginning;
        await settling;
        Assert.False(cache.State.Unsettled.Any);
    }

    [Fact]
    public void A_forgotten_sequence_comes_back_though_its_step_waits_for_its_outcome()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxSequences: 1));
        for (int i = 0; i < 3; i++)
        {
            Forget(cache);
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        cache.CreateSequence().Feed(1);
    }

    [Fact]
    public async Task Its_length_never_falls_while_another_thread_takes_the_outcome_over()
    {
        const int Steps = 4000;
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxTokens: Steps));
        using KvSequence sequence = cache.CreateSequence();
        int falls = 0;
        Task watching = Task.Run(() =>
        {
            for (int last = 0; last < Steps;)
            {
                int length = Math.Min(sequence.Length, sequence.TokenIds.Length);
                falls += length < last ? 1 : 0;
                last = length;
            }
        });
        for (int id = 0; id < Steps; id++)
        {
            Enqueue(sequence, id);
            cache.Settle();
        }

        await watching;
        Assert.Equal(0, falls);
    }

    [Fact]
    public void Threads_that_settle_dispose_and_begin_at_once_take_an_outcome_over_once()
    {
        const int Rounds = 1500;
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.I8, maxTokens: 2 * Rounds, maxSequences: 4));
        KvSequence stays = cache.CreateSequence(), other = cache.CreateSequence();
        KvSequence? goes = null;
        (int told, int wrong) = (0, 0);
        using var start = new Barrier(4);
        using var end = new Barrier(4);
        Thread[] threads = [.. new Action[] { Settle, Settle, () => goes!.Dispose() }.Select(run => new Thread(() =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                start.SignalAndWait();
                Thread.SpinWait(round % 40 * 10);
                run();
                end.SignalAndWait();
            }
        }) { IsBackground = true })];
        Array.ForEach(threads, thread => thread.Start());
        for (int round = 0, length = 0; round < Rounds; round++)
        {
            goes = cache.CreateSequence();
            bool refused = round % 3 == 0;
            using KvStep step = cache.Begin([goes, stays], [round, round], [1, 1]);
            for (int layer = 0; layer < G.Layers; layer++)
            {
                float[] keys = TokenContent.Keys(G, layer, [round, round]);
                keys[0] = refused ? float.NaN : keys[0];
                step.Append(layer, keys, TokenContent.Values(G, layer, [round, round]));
            }

            step.EnqueueCommit();
            start.SignalAndWait();
            other.Begin([1]).Dispose();
            end.SignalAndWait();
            Settle();
            length += refused ? 0 : 1;
            wrong += stays.Length == length ? 0 : 1;
        }

        Array.ForEach(threads, thread => thread.Join());
        Assert.Equal((0, Rounds / 3), (wrong, told));
        Assert.False(cache.State.Unsettled.Any);
        stays.Dispose();
        other.Dispose();
        Assert.Equal(default, cache.GetPageCounts());

        void Settle()
        {
            try
            {
                cache.Settle();
            }
            catch (KvNonFiniteException)
            {
                Interlocked.Increment(ref told);
            }
        }
    }

    [Fact]
    public void What_a_step_has_computed_is_found_by_the_next_prompt()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8);
        config.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence();
        int[] ids = [.. Enumerable.Range(1, 20)];
        Enqueue(first, ids);
        Assert.True(second.Reuse(ids) > 0);
    }

    [Fact]
    public void What_a_step_holds_until_its_outcome_is_known_keeps_nothing_from_fitting()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64, maxSequences: 3);
        config.MemoryBudgetBytes = KvCache.BytesFor(G, config).MinimumBytes + 4096;
        Func<KvCache, KvSequence, int>[] asks =
        [
            (cache, _) => cache.FreeTokens,
            (cache, _) => Enumerable.Range(1, 64).TakeWhile(tokens => cache.CanHold(tokens)).Count(),
            (_, other) => Enumerable.Range(1, 64).TakeWhile(other.CanHold).Count(),
            (_, other) => Enumerable.Range(1, 32).TakeWhile(other.CanAppend).Count(),
        ];
        Assert.All(asks, ask => Assert.Equal(Answer(ask, step => step.Commit()), Answer(ask, step => step.EnqueueCommit())));

        int Answer(Func<KvCache, KvSequence, int> ask, Action<KvStep> commit)
        {
            using KvCache cache = TestCaches.Simd(G, config);
            using KvSequence sequence = cache.CreateSequence(), other = cache.CreateSequence();
            int[] ids = [.. Enumerable.Range(1, 12)];
            KvStep step = sequence.Begin(ids);
            TestCaches.AppendAll(step, G, ids);
            commit(step);
            return ask(cache, other);
        }
    }

    private static KvCache Hooked(Action<string> before) =>
        new(G, TestCaches.Config(), (shape, bytes, seen) => new HookedTier(new SimdTier(shape, bytes, SimdLevel.Auto, 1, seen), before));

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget(KvCache cache) => Enqueue(cache.CreateSequence(), 1, 2);

    private static void Enqueue(KvSequence sequence, params int[] ids)
    {
        using KvStep step = sequence.Begin(ids);
        TestCaches.AppendAll(step, G, ids);
        step.EnqueueCommit();
    }

    /// <summary>A policy that keeps all, and calls out.</summary>
    private sealed class Calling : KvPolicy
    {
        public Action Call { get; set; } = () => { };

        public override bool ActsUnasked => true;

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
        {
            plan.Clear();
            Call();
        }

        public override int MostKeptPages(int pageTokens) => int.MaxValue;
    }
}
