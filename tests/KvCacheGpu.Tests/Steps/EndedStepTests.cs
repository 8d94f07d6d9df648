using System.Runtime.CompilerServices;

namespace KvCacheGpu.Tests;

/// <summary>A step that has ended stays ended: no call on it reaches a step that came later, though that runs in the same memory.</summary>
public sealed class EndedStepTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly float[] Tensor = new float[16];

    [Theory]
    [InlineData("committed")]
    [InlineData("disposed")]
    [InlineData("not finite")]
    [InlineData("member disposed")]
    public void Each_call_on_it_is_refused_while_the_next_step_runs_in_the_same_memory(string how)
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        KvSequence sequence = cache.CreateSequence(), other = cache.CreateSequence();
        KvStep ended = cache.Begin([sequence], [1], [1]);
        KvStep copy = ended;
        End(how, copy, sequence);
        StepLease lease = cache.Steps.Rent();
        cache.Steps.Return(lease);
        KvStep next = other.Begin([2]);
        Assert.NotSame(lease, cache.Steps.Rent());
        Assert.True(ended == copy && ended != next);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            AssertRefused(ended);
            AssertRefused(copy);
            ended.Dispose();
            next.Append(layer, TokenContent.Keys(G, layer, [2]), TokenContent.Values(G, layer, [2]));
        }

        AssertRefused(ended);
        Assert.Equal(1, next.Tokens);
        next.Commit();
        AssertRefused(next);
        Assert.Equal([2], other.TokenIds.ToArray());
        using KvCache alone = TestCaches.Simd(G, TestCaches.Config());
        KvSequence expected = alone.CreateSequence();
        expected.Feed(2);
        Assert.Equal(BatchTests.Content(expected), BatchTests.Content(other));
    }

    [Fact]
    public void It_neither_waits_for_the_next_step_nor_ends_it()
    {
        var gate = new Rendezvous();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = gate;
        using KvCache cache = TestCaches.Reference(G, config);
        KvSequence sequence = cache.CreateSequence();
        KvStep ended = sequence.Begin([1]);
        ended.Dispose();
        KvStep next = sequence.Begin([2]);
        TestCaches.AppendAll(next, G, [2]);
        var committing = new Thread(next.Commit);
        committing.Start();
        gate.Inside.Wait();

        // A thread is inside of the next step: that is not for this one to say.
        Exception? refused = Record.Exception(() => AssertRefused(ended));
        Exception? disposed = Record.Exception(ended.Dispose);
        Exception? inside = Record.Exception(next.Commit);
        gate.Leave.Set();
        committing.Join();
        Assert.Equal((null, null), (refused, disposed));
        Assert.IsType<KvConcurrencyException>(inside);
        Assert.Equal([2], sequence.TokenIds.ToArray());
    }

    [Fact]
    public void A_thread_that_keeps_calling_it_never_gets_inside_of_those_that_come_later()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxTokens: 64));
        KvSequence sequence = cache.CreateSequence();
        var published = new StrongBox<KvStep>(sequence.Begin([1]));
        published.Value.Dispose();
        bool isOver = false;
        var wrong = new List<Exception?>();
        var calling = new Thread(() =>
        {
            for (int call = 0; !Volatile.Read(ref isOver); call++)
            {
                KvStep ended = Volatile.Read(ref published).Value;
                Exception? error = Record.Exception(() =>
                {
                    switch (call % 4)
                    {
                        case 0:
                            ended.Append(0, Tensor, Tensor);
                            break;
                        case 1:
                            ended.Attend(0, new float[32], new float[32]);
                            break;
                        case 2:
                            ended.Commit();
                            break;
                        default:
                            ended.Dispose();
                            throw new ObjectDisposedException("nothing is refused, nothing happens");
                    }
                });
                if (error is not ObjectDisposedException)
                {
                    wrong.Add(error);
                }
            }
        });
        calling.Start();
        Exception? failed = Record.Exception(() =>
        {
            for (int round = 0; round < 20_000; round++)
            {
                KvStep step = sequence.Begin([round]);
                TestCaches.AppendAll(step, G, [round]);
                step.Commit();
                Assert.Equal((round % 32) + 1, sequence.Length);
                sequence.Truncate(sequence.Length % 32);
                Volatile.Write(ref published, new StrongBox<KvStep>(step));
            }
        });
        Volatile.Write(ref isOver, true);
        calling.Join();
        Assert.Null(failed);
        Assert.Empty(wrong);
    }

    [Fact]
    public void A_call_that_races_with_the_commit_belongs_to_that_step_or_is_refused()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxTokens: 64));
        KvSequence sequence = cache.CreateSequence();
        StrongBox<KvStep>? published = null;
        bool isOver = false;
        Exception? failed = null;
        var calling = new Thread(() => failed = Record.Exception(() =>
        {
            while (!Volatile.Read(ref isOver))
            {
                // All layers of it are there, so that no call of Append can succeed on it.
                KvStep step = Volatile.Read(ref published)?.Value ?? default;
                Exception? refused = Record.Exception(() => step.Append(0, Tensor, Tensor));
                Assert.True(refused is KvStepOrderException or KvConcurrencyException or ObjectDisposedException, $"{refused}");
            }
        }));
        calling.Start();
        for (int round = 0; round < 10_000; round++)
        {
            KvStep step = sequence.Begin([round]);
            TestCaches.AppendAll(step, G, [round]);
            Volatile.Write(ref published, new StrongBox<KvStep>(step));
            while (Record.Exception(step.Commit) is KvConcurrencyException)
            {
            }

            sequence.Truncate(sequence.Length % 32);
        }

        Volatile.Write(ref isOver, true);
        calling.Join();
        Assert.Null(failed);
    }

    [Fact]
    public void A_sequence_that_is_disposed_too_late_for_its_own_step_does_not_end_another()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        KvSequence late = cache.CreateSequence(), other = cache.CreateSequence();
        KvStep ended = late.Begin([1]);
        ISequenceHolder holder = late.State.Holder!;
        ended.Dispose();
        KvStep step = other.Begin([2]);
        Assert.Same(holder, other.State.Holder);
        holder.Abandon(late.State);
        late.Dispose();
        TestCaches.AppendAll(step, G, [2]);
        step.Commit();
        holder.Abandon(other.State);
        Assert.Equal([2], other.TokenIds.ToArray());
        Assert.Null(other.State.Holder);
    }

    [Fact]
    public void A_disposed_member_ends_the_step_for_all_and_leaves_the_others_as_they_were()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(PageFormat.I8));
        KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        a.FeedMany(1, 7);
        c.FeedMany(50, 3);
        (KvPageCounts pages, float[] ofA, float[] ofC) = (cache.GetPageCounts(), BatchTests.Content(a), BatchTests.Content(c));
        KvStep step = cache.Begin([a, b, c], [8, 1, 53, 54], [1, 1, 2]);
        step.Append(0, TokenContent.Keys(G, 0, [8, 1, 53, 54]), TokenContent.Values(G, 0, [8, 1, 53, 54]));
        b.Dispose();
        AssertRefused(step);
        step.Dispose();
        Assert.Equal((7, 3, pages), (a.Length, c.Length, cache.GetPageCounts()));
        Assert.Equal(ofA, BatchTests.Content(a));
        Assert.Equal(ofC, BatchTests.Content(c));
        _ = BatchTests.Run(cache.Begin([c, a], [53, 8], [1, 1]), [53, 8]);
    }

    [Fact]
    public void A_disposed_cache_ends_all_its_steps_without_a_trace()
    {
        KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        KvStep one = cache.Begin([a, c], [1, 2], [1, 1]), other = b.Begin([3]);
        TestCaches.AppendAll(one, G, [1, 2]);
        cache.Dispose();
        AssertRefused(one);
        AssertRefused(other);
        one.Dispose();
        Assert.Equal((0, 0), (cache.AllocatedBytes, cache.ReservedBytes));
        Assert.Throws<ObjectDisposedException>(() => cache.Begin([a], [1], [1]));
        Assert.Throws<ObjectDisposedException>(() => cache.CanAppend([a], [1]));
    }

    [Fact]
    public void The_default_value_is_no_step_and_says_so()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxTokens: 8));
        KvSequence sequence = cache.CreateSequence();
        Assert.False(sequence.TryBegin(new int[9], out KvStep none));
        Assert.Equal(default, none);
        foreach (Action call in (Action[])[() => none.Append(0, Tensor, Tensor), () => none.Attend(0, Tensor, Tensor), none.Commit, () => _ = none.Tokens])
        {
            KvStepOrderException refused = Assert.Throws<KvStepOrderException>(call);
            Assert.Equal("E010: KvStep: expected a step that Begin returned, or TryBegin with true, got a default value, which is no step", refused.Message);
        }

        none.Dispose();
    }

    private static void End(string how, KvStep step, KvSequence sequence)
    {
        switch (how)
        {
            case "committed":
                TestCaches.AppendAll(step, G, [1]);
                step.Commit();
                break;
            case "not finite":
                step.Append(0, Tensor, Tensor);
                step.Append(1, Enumerable.Repeat(float.NaN, 16).ToArray(), Tensor);
                Assert.Throws<KvNonFiniteException>(step.Commit);
                break;
            case "member disposed":
                sequence.Dispose();
                break;
            default:
                step.Dispose();
                break;
        }
    }

    private static void AssertRefused(KvStep step)
    {
        Assert.Throws<ObjectDisposedException>(() => step.Append(0, Tensor, Tensor));
        Assert.Throws<ObjectDisposedException>(() => step.Attend(0, new float[32], new float[32]));
        Assert.Throws<ObjectDisposedException>(step.Commit);
        Assert.Throws<ObjectDisposedException>(() => step.Tokens);
    }
}
