using KvCacheGpu.TestKit;
using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Disposal beside everything else: it waits for what is inside, ends what is open, and what comes later is refused by one error.</summary>
public sealed class DisposalTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Fact]
    public void A_cache_disposed_beside_its_users_ends_each_by_one_error_and_gives_back_every_byte()
    {
        SnapshotStore saved = LiveCaches.Store();
        using (KvCache cache = Cache())
        {
            cache.CreateSequence().FeedMany(1, 11);
            cache.Saved(saved);
        }

        Action<KvCache>[] uses =
        [
            cache =>
            {
                using KvSequence sequence = cache.CreateSequence();
                sequence.FeedMany(1, 7, 3);
                using KvSequence fork = sequence.Fork();
                fork.Truncate(2);
                fork.Decode(9);
            },
            cache => Array.ForEach([.. cache.Restored(saved).Sequences], sequence => sequence.Dispose()),
            cache =>
            {
                using KvPrefixPin pin = cache.PinPrefix(KvSequenceOptions.Default, Enumerable.Range(1, 12).ToArray());
                using KvSequence sequence = cache.CreateSequence();
                _ = sequence.Reuse(Enumerable.Range(1, 12).ToArray());
                _ = cache.CanAppend([sequence], [2]) && cache.GetPageCounts().Open >= 0;
            },
            cache => cache.Saved(LiveCaches.Store()),
        ];
        for (int round = 0; round < 60; round++)
        {
            long late = 0;
            KvCache cache = Cache(late: () => Interlocked.Increment(ref late));
            cache.CreateSequence().FeedMany(1, 5);
            var ends = new Exception?[uses.Length];
            Thread[] threads = [.. uses.Select((use, i) => new Thread(() => ends[i] = Record.Exception(() => UseForEver(use, cache))))];
            Array.ForEach(threads, thread => thread.Start());
            Thread.SpinWait(round * 4000);
            cache.Dispose();
            Array.ForEach(threads, thread => thread.Join());
            Assert.All(ends, end => Assert.IsType<ObjectDisposedException>(end));
            Assert.Equal((0, 0, 0), (cache.AllocatedBytes, cache.ReservedBytes, late));
            cache.Dispose();
        }
    }

    [Theory]
    [InlineData("cache")]
    [InlineData("sequence")]
    [InlineData("step")]
    [InlineData("another member")]
    public void It_waits_for_the_commit_that_is_inside(string what)
    {
        var gate = new Rendezvous();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = gate;
        using KvCache cache = TestCaches.Reference(G, config);
        KvSequence sequence = cache.CreateSequence();
        KvSequence other = cache.CreateSequence();
        KvStep step = cache.Begin([sequence, other], [4, 5, 6], [2, 1]);
        TestCaches.AppendAll(step, G, [4, 5, 6]);
        Exception? committed = null, disposed = null;
        var committing = new Thread(() => committed = Record.Exception(step.Commit));
        committing.Start();
        gate.Inside.Wait();
        IDisposable target = what switch { "cache" => cache, "sequence" => sequence, "step" => step, _ => other };
        Thread disposing = Waiting(() => disposed = Record.Exception(target.Dispose));
        gate.Leave.Set();
        disposing.Join();
        committing.Join();
        Assert.Equal((null, null), (committed, disposed));
        Assert.Throws<ObjectDisposedException>(() => step.Append(0, new float[32], new float[32]));
        if (what is "step" or "another member")
        {
            Assert.Equal([4, 5], sequence.TokenIds.ToArray());
            sequence.Feed(6);
        }
        else
        {
            Assert.Throws<ObjectDisposedException>(() => sequence.Length);
            Assert.Throws<ObjectDisposedException>(() => cache.CanAppend([sequence], [1]));
            Assert.Throws<ObjectDisposedException>(() => sequence.Begin([6]));
        }

        Type? ended = Record.Exception(() => cache.Begin([other, sequence], [7, 8], [1, 1]).Dispose())?.GetType();
        Assert.Equal(what == "step" ? null : typeof(ObjectDisposedException), ended);
    }

    [Theory]
    [InlineData("cache")]
    [InlineData("sequence")]
    [InlineData("step")]
    public void From_inside_of_a_commit_it_is_refused_and_changes_nothing(string what)
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = policy;
        using KvCache cache = TestCaches.Reference(G, config);
        KvSequence sequence = cache.CreateSequence();
        using KvStep step = sequence.Begin([1]);
        TestCaches.AppendAll(step, G, [1]);
        Exception? inside = null;
        IDisposable target = what switch { "cache" => cache, "sequence" => sequence, _ => step };
        policy.Call = () => inside ??= Record.Exception(target.Dispose);
        step.Commit();
        Assert.Equal("E006", Assert.IsType<KvConcurrencyException>(inside).Code);
        sequence.Feed(2);
        Assert.Equal([1, 2], sequence.TokenIds.ToArray());
        cache.CreateSequence().Feed(3);
    }

    [Fact]
    public void A_load_that_is_under_way_ends_and_leaves_nothing()
    {
        SnapshotStore saved = LiveCaches.Store();
        KvCache cache = Cache();
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence();
        first.FeedMany(1, 60);
        second.FeedMany(200, 60);
        cache.Saved(saved);
        Thread? disposing = null;
        Exception? inside = null;
        var progress = new Reporting(() =>
        {
            inside ??= Record.Exception(cache.Dispose);
            disposing ??= Waiting(cache.Dispose);
        });
        Assert.Throws<ObjectDisposedException>(() => cache.LoadAsync(saved, "s", null, progress).GetAwaiter().GetResult());
        disposing!.Join();
        Assert.IsType<KvConcurrencyException>(inside);
        Assert.Equal((0, 0), (cache.AllocatedBytes, cache.ReservedBytes));
    }

    [Fact]
    public void What_a_save_still_holds_counts_no_longer()
    {
        KvCache cache = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8)));
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 33);
        using var capture = new CacheCapture(cache.State);
        Assert.True(sequence.State.Gate.EnterNext(default));
        capture.Add(sequence.State);
        sequence.State.Gate.Leave();
        KvPrefixPin pin = cache.PinPrefix(KvSequenceOptions.Default, [1]);
        cache.Dispose();
        Assert.Equal((0, 0), (cache.AllocatedBytes, cache.ReservedBytes));
        pin.Dispose();
        capture.Dispose();
        Assert.Equal(0, cache.AllocatedBytes);
    }

    [Fact]
    public void A_policy_that_refuses_a_sequence_leaves_nothing_of_it()
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config();
        (config.Policy, config.PrefixReuse) = (policy, true);
        using KvCache cache = TestCaches.Reference(G, config);
        long before = cache.AllocatedBytes;
        policy.OnState = () => throw new InvalidOperationException("no memory of this one");
        Assert.Throws<InvalidOperationException>(cache.CreateSequence);
        Assert.Equal(before, cache.AllocatedBytes);
        policy.OnState = () => { };
        KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1);
        policy.OnState = () => throw new InvalidOperationException("nor of its fork");
        before = cache.AllocatedBytes;
        Assert.Throws<InvalidOperationException>(sequence.Fork);
        Assert.Equal(before, cache.AllocatedBytes);
        sequence.Feed(2);
    }

    [Fact]
    public void Token_ids_that_are_kept_are_never_another_sequences()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        for (int round = 0; round < 50; round++)
        {
            KvSequence first = cache.CreateSequence(new KvSequenceOptions { Tenant = "north" });
            first.FeedMany(300, 21);
            ReadOnlySpan<int> kept = first.TokenIds;
            first.Dispose();
            using KvSequence second = cache.CreateSequence(new KvSequenceOptions { Tenant = "south" });
            second.FeedMany(8000, 21);
            Assert.Equal(Enumerable.Range(300, 21), kept.ToArray());
        }
    }

    private static void UseForEver(Action<KvCache> use, KvCache cache)
    {
        while (true)
        {
            use(cache);
        }
    }

    [Fact]
    public void A_policy_may_use_the_cache_while_it_makes_its_state()
    {
        var policy = new Calling();
        KvCacheOptions config = TestCaches.Config(maxSequences: 4);
        config.Policy = policy;
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence prompt = cache.CreateSequence();
        prompt.FeedMany(1, 12);
        KvSequence? fork = null;
        policy.OnState = () =>
        {
            policy.OnState = () => { };
            fork = prompt.Fork();
        };
        using KvSequence made = cache.CreateSequence();
        Assert.Equal((0, 12), (made.Length, fork!.Length));
        fork.Dispose();
    }

    private static KvCache Cache(Action? late = null)
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxSequences: 12);
        (config.PrefixReuse, config.PoisonPages) = (true, true);
        return new KvCache(G, config, (shape, bytes, seen) =>
        {
            bool isDisposed = false;
            return new HookedTier(new ReferenceTier(shape, bytes, seen), operation =>
            {
                if (Volatile.Read(ref isDisposed))
                {
                    late?.Invoke();
                }

                isDisposed |= operation == "disposed";
            });
        });
    }

    // Started, and as far as it comes: waiting, or at its end.
    private static Thread Waiting(Action action)
    {
        var thread = new Thread(() => action());
        thread.Start();
        SpinWait.SpinUntil(() => thread.ThreadState is ThreadState.WaitSleepJoin or ThreadState.Stopped);
        return thread;
    }

    private sealed class Reporting(Action reported) : IProgress<SnapshotProgress>
    {
        public void Report(SnapshotProgress value) => reported();
    }

    /// <summary>A policy that keeps all, and calls out.</summary>
    private sealed class Calling : KvPolicy
    {
        public Action Call { get; set; } = () => { };

        public Action OnState { get; set; } = () => { };

        public override bool ActsUnasked => true;

        public override object? CreateState(KvGeometry geometry)
        {
            OnState();
            return null;
        }

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
        {
            plan.Clear();
            Call();
        }

        public override int MostKeptPages(int pageTokens) => int.MaxValue;
    }
}
