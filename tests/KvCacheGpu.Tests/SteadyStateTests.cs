using System.Numerics;

namespace KvCacheGpu.Tests;

/// <summary>What must not grow while a sequence does: managed memory, working memory; and what threads must not break.</summary>
public sealed class SteadyStateTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16, false)]
    [InlineData(PageFormat.I8, PageFormat.I8, false)]
    [InlineData(PageFormat.I8, PageFormat.I8, true)]
    [InlineData(PageFormat.T4, PageFormat.V4, false)]
    [InlineData(PageFormat.T2, PageFormat.V2, true)]
    public void A_thousand_decode_steps_allocate_no_managed_memory(PageFormat key, PageFormat value, bool window)
    {
        KvCacheOptions config = TestCaches.Config(key, maxTokens: 2048);
        config.ValueFormat = value;
        config.LayerFormats = new Dictionary<int, KvFormats> { [1] = new(PageFormat.I8, PageFormat.F16) };
        config.Policy = window ? new WindowPolicy(16) : null;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence second = cache.CreateSequence();
        float[] keys = TokenContent.Keys(G, 0, [1, 2]);
        float[] queries = TokenContent.Queries(G, 0, [1, 2]);
        var output = new float[2 * G.QueryHeads * G.ValueWidth];
        Steps(100);
        Assert.Equal(0, Steps(900));

        // Bytes that the steps allocated, apart from room for token ids: it doubles, so that a few of the steps begin with more of it.
        long Steps(int count)
        {
            long allocated = 0;
            for (int i = 0; i < count; i++)
            {
                (int collections, long before) = (GC.CollectionCount(0), GC.GetAllocatedBytesForCurrentThread());
                bool grows = BitOperations.IsPow2(sequence.Length);
                using KvStep step = cache.Begin(i % 3 == 0 ? [second, sequence] : [sequence, second], [i, i], [1, 1]);
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    step.Append(layer, keys, keys);
                    step.Attend(layer, queries, output);
                }

                step.Commit();
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;

                // A collection that another test begins counts the rest of the thread's allocation buffer as allocated.
                allocated += grows || collections != GC.CollectionCount(0) ? 0 : bytes;
            }

            return allocated;
        }
    }

    // Not on ILGPU's CPU accelerator: its own launches allocate, some bytes more or less each time.
    [Fact]
    public void Steps_that_are_committed_without_waiting_allocate_nothing()
    {
        Assert.Equal(0, Steps(step => step.Commit()));
        Assert.Equal(0, Steps(step => step.EnqueueCommit()));

        static long Steps(Action<KvStep> commit)
        {
            KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 512);
            config.Policy = new WindowPolicy(16);
            using var cache = new KvCache(G, config);
            KvSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence(), cache.CreateSequence()];
            float[] keys = TokenContent.Keys(G, 0, [1]);
            float[] queries = TokenContent.Queries(G, 0, [1]);
            var output = new float[G.QueryHeads * G.ValueWidth];
            long allocated = 0;
            for (int i = 0; i < 450; i++)
            {
                KvSequence sequence = sequences[i % 3];
                (int collections, long before) = (GC.CollectionCount(0), GC.GetAllocatedBytesForCurrentThread());
                bool counts = i > 150 && !BitOperations.IsPow2(sequence.Length);
                using KvStep step = sequence.Begin([i]);
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    step.Append(layer, keys, keys);
                    step.Attend(layer, queries, output);
                }

                commit(step);
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
                allocated += counts && collections == GC.CollectionCount(0) ? bytes : 0;
            }

            return allocated;
        }
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void Sequences_on_four_threads_do_not_meet(PageFormat format)
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(format, maxTokens: 400, maxSequences: 16));
        KvSequence prompt = cache.CreateSequence();
        prompt.FeedMany(1, 10);
        KvSequence[] roots = [.. Enumerable.Range(0, 4).Select(_ => prompt.Fork())];
        var failures = new Exception?[4];
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(i => new Thread(() => failures[i] = Record.Exception(() => Live(roots[i], i))))];
        Array.ForEach(threads, t => t.Start());
        Array.ForEach(threads, t => t.Join());
        Assert.All(failures, Assert.Null);
        Array.ForEach(roots, r => r.Dispose());
        prompt.Dispose();
        Assert.Equal(default, cache.GetPageCounts());
        Assert.Equal(cache.State.Pool.SlabCount, cache.State.Pool.FreeSlabs);
    }

    [Fact]
    public void Two_threads_in_one_sequence_are_detected()
    {
        var gate = new Rendezvous();
        KvCacheOptions config = TestCaches.Config();
        config.Policy = gate;
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        KvStep step = sequence.Begin([1]);
        TestCaches.AppendAll(step, G, [1]);
        var committing = new Thread(step.Commit) { IsBackground = true };
        committing.Start();
        gate.Inside.Wait();
        KvConcurrencyException inStep = Assert.Throws<KvConcurrencyException>(() => step.Append(0, new float[16], new float[16]));
        Assert.Equal(("E006", "a call on another thread"), (inStep.Code, inStep.Actual));
        Assert.Throws<KvConcurrencyException>(sequence.Fork);
        gate.Leave.Set();
        committing.Join();
        Assert.Equal(1, sequence.Length);
        sequence.Feed(2);
    }

    [Fact]
    public void Page_mass_is_each_pages_share_and_sums_to_one()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Measuring());
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 13);
        Span<float> mass = new float[8];
        Assert.Equal(0, sequence.PageMass(0, 0, mass));
        sequence.Decode(14);
        for (int head = 0; head < G.QueryHeads; head++)
        {
            Assert.Equal(4, sequence.PageMass(1, head, mass));
            Assert.Equal(1, mass[0] + mass[1] + mass[2] + mass[3], 1e-5);
            Assert.Equal(MassOfPage(1, head, 2), mass[2], 1e-5);
        }

        using (sequence.Begin([15]))
        {
        }

        Assert.Equal(0, sequence.PageMass(1, 0, mass));
    }

    [Fact]
    public void Page_mass_follows_its_page_when_others_are_dropped()
    {
        KvCacheOptions config = TestCaches.Measuring();
        using KvCache whole = TestCaches.Simd(G, config);
        config.Policy = new WindowPolicy(1, 3);
        using KvCache windowed = TestCaches.Simd(G, config);
        using KvSequence a = whole.CreateSequence();
        using KvSequence b = windowed.CreateSequence();
        a.FeedMany(1, 14);
        b.FeedMany(1, 14);
        a.Decode(15);
        b.Decode(15);
        Span<float> all = new float[8];
        Span<float> some = new float[8];
        Assert.Equal(4, a.PageMass(0, 3, all));
        Assert.Equal(3, b.PageMass(0, 3, some));
        Assert.Equal([all[0], all[2], all[3]], some[..3].ToArray());
        Assert.Equal(4, b.EvictedTokens);
    }

    private static double MassOfPage(int layer, int head, int page)
    {
        float[] query = TokenContent.Queries(G, layer, [14]);
        double[] weights = [.. Enumerable.Range(1, 14).Select(id => Math.Exp(Enumerable.Range(0, 8).Sum(
            e => (double)query[(head * 8) + e] * TokenContent.Keys(G, layer, [id])[(head / 2 * 8) + e]) / Math.Sqrt(8)))];
        return weights.Skip(page * 4).Take(4).Sum() / weights.Sum();
    }

    private static void Live(KvSequence root, int thread)
    {
        var random = new Random(thread);
        for (int round = 0; round < 150; round++)
        {
            using KvSequence fork = root.Fork();
            int first = (thread * 100_000) + (round * 10);
            fork.FeedMany(first, 1 + random.Next(14), chunk: 5);
            using (KvStep abandoned = fork.Begin([7]))
            {
                abandoned.Append(0, TokenContent.Keys(G, 0, [7]), TokenContent.Values(G, 0, [7]));
            }

            float[] keys = fork.Materialized(1).Keys;
            Assert.Equal(TokenContent.Keys(G, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[(8 * 16)..], keys[(8 * 16)..(10 * 16)], Close);
            Assert.Equal(fork.Length * 16, keys.Length);
            Assert.Equal(TokenContent.Keys(G, 1, fork.TokenIds), keys, Close);
        }
    }

    private static bool Close(float a, float b) => Math.Abs(a - b) < 0.2f;
}
