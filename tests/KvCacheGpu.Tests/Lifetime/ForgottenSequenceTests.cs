using System.Collections.Concurrent;
using System.Runtime.CompilerServices;

namespace KvCacheGpu.Tests;

/// <summary>A sequence whose handle is collected without having been disposed: what it held comes back, the host is told, and nobody waits for it.</summary>
public sealed class ForgottenSequenceTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void All_that_it_held_comes_back_with_the_next_call_that_takes_room_and_it_is_named(bool asksOnly)
    {
        var told = new List<KvForgottenSequence>();
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxSequences: 3);
        (config.OnForgottenSequence, config.Policy) = (told.Add, new H2oPolicy { SinkTokens = 4, WindowTokens = 4 });
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence other = cache.CreateSequence();
        other.Feed(1);
        long before = cache.AllocatedBytes;
        KvPageCounts pages = cache.GetPageCounts();
        Forget(cache, "lost", "t", 9);
        Forget(cache, null, null, 30);
        long held = cache.AllocatedBytes;
        Assert.True(held > before);
        Assert.Equal(0, cache.ForgottenSequences);
        Collect();
        Assert.Equal((2, held, 0), (cache.ForgottenSequences, cache.AllocatedBytes, told.Count));
        if (asksOnly)
        {
            Assert.True(other.CanAppend(1));
        }
        else
        {
            using (other.Begin([2]))
            {
            }
        }

        Assert.Equal((2, before), (cache.ForgottenSequences, cache.AllocatedBytes));
        Assert.Equal(pages, cache.GetPageCounts());
        Assert.Equal([new(null, null, 30), new("lost", "t", 9)], told.OrderBy(sequence => sequence.Name, StringComparer.Ordinal));
    }

    [Fact]
    public void Its_place_is_free_for_the_next_one_and_a_fork_keeps_the_pages_that_it_shared()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxSequences: 2));
        using KvSequence fork = ForgetWithFork(cache);
        Assert.Throws<KvOutOfMemoryException>(cache.CreateSequence);
        Collect();
        using KvSequence next = cache.CreateSequence();
        Assert.Equal(1, cache.ForgottenSequences);
        fork.CheckContent();
        fork.Feed(100);
    }

    [Fact]
    public void A_step_under_way_goes_on_and_the_sequence_is_given_back_after_it()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxSequences: 2));
        long empty = cache.AllocatedBytes;
        CommitStepOfForgotten(cache, out long committed);
        Assert.True(committed > empty);
        Collect();
        cache.CreateSequence().Dispose();
        Assert.Equal((1, empty), (cache.ForgottenSequences, cache.AllocatedBytes));
    }

    [Fact]
    public void What_is_disposed_is_not_forgotten()
    {
        KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        DisposeOne(cache);
        Forget(cache, null, null, 5);
        cache.Dispose();
        Collect();
        Assert.Equal(0, cache.ForgottenSequences);
    }

    [Fact]
    public void It_does_not_keep_its_cache_alive()
    {
        WeakReference cache = ForgetCache();
        for (int i = 0; i < 10 && cache.IsAlive; i++)
        {
            Collect();
        }

        Assert.False(cache.IsAlive);
    }

    [Fact]
    public void What_the_hosts_callback_throws_comes_out_and_loses_no_other()
    {
        int told = 0;
        KvCacheOptions config = TestCaches.Config();
        config.OnForgottenSequence = _ => throw new InvalidOperationException($"{++told}");
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        long before = cache.AllocatedBytes;
        Forget(cache, null, null, 5);
        Forget(cache, null, null, 6);
        Collect();
        Assert.Throws<InvalidOperationException>(() => sequence.Begin([1]));
        Assert.Throws<InvalidOperationException>(cache.CreateSequence);
        Assert.Equal((2, before), (told, cache.AllocatedBytes));
        sequence.Feed(1);
    }

    [Fact]
    public async Task Many_threads_may_forget_while_others_step_and_no_byte_is_lost()
    {
        var told = new ConcurrentBag<KvForgottenSequence>();
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxSequences: 64);
        (config.OnForgottenSequence, config.PrefixReuse) = (told.Add, true);
        using KvCache cache = TestCaches.Reference(G, config);

        // Working memory of as many steps at once as there are threads stays with the cache.
        KvSequence[] warm = [.. Enumerable.Range(0, 4).Select(_ => cache.CreateSequence())];
        KvStep[] steps = [.. warm.Select(sequence => sequence.Begin([1]))];
        Array.ForEach(steps, step => step.Dispose());
        Array.ForEach(warm, sequence => sequence.Dispose());
        long before = cache.AllocatedBytes - cache.CachedBytes;
        Task[] tasks = [.. Enumerable.Range(0, 4).Select(thread => Task.Run(() =>
        {
            for (int i = 0; i < 40; i++)
            {
                try
                {
                    ForgetOrDispose(cache, thread, i);
                }
                catch (KvOutOfMemoryException)
                {
                    // Forgotten ones have all the places until they are collected.
                    Collect();
                }
            }
        }))];
        await Task.WhenAll(tasks);
        Collect();
        cache.CreateSequence().Dispose();
        Assert.Equal(before, cache.AllocatedBytes - cache.CachedBytes);
        Assert.Equal(cache.ForgottenSequences, told.Count);
        Assert.NotEmpty(told);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget(KvCache cache, string? name, string? tenant, int tokens)
    {
        KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = tenant });
        sequence.Name = name;
        sequence.FeedMany(1, tokens);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static KvSequence ForgetWithFork(KvCache cache)
    {
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 21);
        return sequence.Fork();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void CommitStepOfForgotten(KvCache cache, out long committed)
    {
        KvStep step = BeginForgotten(cache);
        Collect();

        // Another call that takes room, while the step is under way.
        cache.CreateSequence().Dispose();
        TestCaches.AppendAll(step, G, [7, 8, 9]);
        step.Commit();
        committed = cache.AllocatedBytes;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static KvStep BeginForgotten(KvCache cache) => cache.CreateSequence().Begin([7, 8, 9]);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void DisposeOne(KvCache cache)
    {
        KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1);
        sequence.Dispose();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference ForgetCache()
    {
        KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        Forget(cache, null, null, 5);
        return new WeakReference(cache);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ForgetOrDispose(KvCache cache, int thread, int round)
    {
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1000 * thread, 5 + round, chunk: 7);
        if (round % 3 == 0)
        {
            sequence.Fork().Decode(3);
        }

        if (round % 2 == 0)
        {
            sequence.Dispose();
        }
    }

    private static void Collect()
    {
        for (int i = 0; i < 2; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }
}
