namespace KvCacheGpu.Tests;

/// <summary>The numbers of a refusal are true: with so much more of the resource, the same call succeeds.</summary>
public sealed class ShortageTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-shortage-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Tokens_of_a_sequence()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxTokens: 64));
        using KvSequence other = cache.CreateSequence();
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 60);
        KvShortage shortage = Refused(sequence, 9);
        Assert.Equal((KvResource.SequenceTokens, 9L, 4L, sequence.Id, null), (shortage.Resource, shortage.Needed, shortage.Free, shortage.Sequence, shortage.Tenant));
        sequence.Truncate((int)(60 - shortage.Missing + 1));
        Assert.False(sequence.CanAppend(9));
        sequence.Truncate((int)(60 - shortage.Missing));
        Fits(sequence, 9);
    }

    [Fact]
    public void Places_of_sequences()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxSequences: 2));
        KvSequence first = cache.CreateSequence();
        using KvSequence second = first.Fork();
        Assert.Equal((1L, 2L), (first.Id, second.Id));
        Assert.Equal(("a new sequence", KvResource.Sequences, 1L, 0L, null), Parts(Assert.Throws<KvOutOfMemoryException>(cache.CreateSequence).Shortage));
        Assert.Equal(("a fork", KvResource.Sequences, 1L, 0L, null), Parts(Assert.Throws<KvOutOfMemoryException>(first.Fork).Shortage));
        first.Dispose();
        using KvSequence third = second.Fork();
        Assert.Equal(3L, third.Id);
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void Bytes_of_pages(PageFormat format)
    {
        KvCacheOptions options = TestCaches.Config(format, maxTokens: 400, maxSequences: 2);
        options.MemoryBudgetBytes = KvCache.BytesFor(G, options).MinimumBytes + (format == PageFormat.F32 ? 40_000 : 15_000);
        using KvCache cache = TestCaches.Reference(G, options);
        using KvSequence a = cache.CreateSequence();
        using KvSequence b = cache.CreateSequence();
        a.FeedMany(1, 41, chunk: 1);
        while (b.CanAppend(1))
        {
            b.Feed(b.Length);
        }

        long before = cache.AllocatedBytes;
        KvShortage shortage = Refused(a, 20);
        Assert.Contains(shortage.Resource, new[] { KvResource.BudgetBytes, KvResource.SlabBytes });
        Assert.Equal(("a step", a.Id, null), (shortage.What, shortage.Sequence, shortage.Tenant));
        Assert.Equal(before, cache.AllocatedBytes);
        while (before - cache.AllocatedBytes < shortage.Missing)
        {
            Assert.False(format == PageFormat.F32 && a.CanAppend(20), $"{before - cache.AllocatedBytes} bytes were not to suffice, {shortage}");
            b.Truncate(b.Length - 1);
        }

        // Where there are several sizes of pages, those that went may have left slabs that others still hold.
        for (; format != PageFormat.F32 && !a.CanAppend(20); b.Truncate(b.Length - 4))
        {
            KvShortage now = Refused(a, 20);
            Assert.True(now.Resource == KvResource.SlabBytes && now.Missing <= shortage.Missing, $"{shortage}, then {now}");
        }

        Fits(a, 20);
    }

    [Fact]
    public void Working_memory_of_a_step()
    {
        KvCacheOptions options = TestCaches.Config(maxSequences: 2);
        options.MemoryBudgetBytes = KvCache.BytesFor(G, options).MinimumBytes;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence a = cache.CreateSequence();
        using KvSequence b = cache.CreateSequence();
        using (a.Begin([1]))
        {
            KvShortage shortage = Refused(b, 1);
            Assert.Equal((KvResource.StepMemoryBytes, true, b.Id), (shortage.Resource, shortage.IsTransient, shortage.Sequence));
            Assert.Equal(cache.BudgetBytes - cache.AllocatedBytes, shortage.Free);
        }

        Fits(b, 1);
    }

    [Fact]
    public void Memory_of_the_device()
    {
        long bytes = KvCache.BytesFor(G, TestCaches.Config()).ReservedBytes;
        KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(
            () => new KvCache(G, TestCaches.Config(), (_, _, _) => throw new InsufficientMemoryException()));
        Assert.Equal(("the arena", KvResource.DeviceBytes, bytes, 0L, null), Parts(refused.Shortage));
        Assert.IsType<InsufficientMemoryException>(refused.InnerException);
    }

    [Fact]
    public void A_step_of_several_sequences_names_the_one_that_is_full_and_none_where_all_are_short()
    {
        KvCacheOptions options = TestCaches.Config(maxTokens: 200, maxSequences: 2);
        options.MemoryBudgetBytes = KvCache.BytesFor(G, options).MinimumBytes + 1000;
        using KvCache cache = TestCaches.Reference(G, options);
        using KvSequence a = cache.CreateSequence();
        using KvSequence b = cache.CreateSequence();
        Assert.Equal(b.Id, WhyNot(cache, [a, b], [1, 201])?.Sequence);
        KvShortage shortage = WhyNot(cache, [a, b], [150, 150])!.Value;
        Assert.NotEqual(KvResource.SequenceTokens, shortage.Resource);
        Assert.Null(shortage.Sequence);
    }

    [Fact]
    public async Task Loads_say_what_all_their_sequences_lack_together()
    {
        var store = new SnapshotStore(_folder);
        long bytes = 0;
        using (KvCache large = TestCaches.Simd(G, TestCaches.Config(maxSequences: 3)))
        {
            for (int i = 0; i < 3; i++)
            {
                KvSequence sequence = large.CreateSequence();
                sequence.Name = $"{i}";
                sequence.FeedMany(1, 40 + i);
                bytes += sequence.AllocatedBytes;
            }

            await large.SaveAsync(store, "three");
        }

        using KvCache few = TestCaches.Simd(G, TestCaches.Config(maxSequences: 3));
        KvSequence there = few.CreateSequence();
        Assert.Equal(("a load", KvResource.Sequences, 3L, 2L, null), Parts(await Lack(few, store, null)));
        there.Dispose();
        Assert.Equal(3, (await few.LoadAsync(store, "three")).Sequences.Count);

        using KvCache low = TestCaches.Simd(G, TestCaches.Config(maxTokens: 41, maxSequences: 3));
        Assert.Equal(("sequence '2'", KvResource.SequenceTokens, 42L, 41L, null), Parts(await Lack(low, store, ["2"])));

        KvCacheOptions options = TestCaches.Config(maxSequences: 3);
        options.MemoryBudgetBytes = KvCache.BytesFor(G, options).MinimumBytes;
        using KvCache small = TestCaches.Simd(G, options);
        KvShortage pages = await Lack(small, store, null);
        Assert.Contains(pages.Resource, new[] { KvResource.BudgetBytes, KvResource.SlabBytes });
        Assert.Equal((bytes, null), (pages.Needed, pages.Sequence));
    }

    private static async Task<KvShortage> Lack(KvCache cache, SnapshotStore store, string[]? ids) =>
        (await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.LoadAsync(store, "three", ids))).Shortage;

    private static KvShortage? WhyNot(KvCache cache, KvSequence[] sequences, int[] tokens)
    {
        using (cache.State.Pool.Gate.Enter())
        {
            return StepDemand.WhyNot(cache.State, Array.ConvertAll(sequences, sequence => sequence.State), tokens, out _);
        }
    }

    private static (string What, KvResource Resource, long Needed, long Free, long? Sequence) Parts(KvShortage shortage) =>
        (shortage.What, shortage.Resource, shortage.Needed, shortage.Free, shortage.Sequence);

    private static KvShortage Refused(KvSequence sequence, int tokens)
    {
        Assert.False(sequence.TryBegin(new int[tokens], out KvStep step, out KvShortage? shortage));
        Assert.Equal(default, step);
        Assert.Equal(shortage, Assert.Throws<KvOutOfMemoryException>(() => sequence.Begin(new int[tokens])).Shortage);
        Assert.InRange(shortage!.Value.Free, 0, shortage.Value.Needed - 1);
        return shortage.Value;
    }

    private static void Fits(KvSequence sequence, int tokens)
    {
        Assert.True(sequence.TryBegin(new int[tokens], out KvStep step, out KvShortage? shortage), $"{shortage}");
        step.Dispose();
        Assert.Null(shortage);
    }
}
