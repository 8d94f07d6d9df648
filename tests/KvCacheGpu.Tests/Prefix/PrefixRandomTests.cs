using KvCacheGpu.Kernels;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>Random lives of sequences of three tenants that reuse each other's prefixes in a cache that is too small for all of them; the environment variable KVCACHE_SOAK
/// multiplies how long they are.</summary>
public sealed class PrefixRandomTests(ITestOutputHelper output)
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, 0, 11)]
    [InlineData(PageFormat.F32, 9, 12)]
    [InlineData(PageFormat.I8, 0, 13)]
    [InlineData(PageFormat.I8, 9, 14)]
    public void Reuse_never_changes_what_a_sequence_holds_and_bytes_add_up(PageFormat format, int window, int seed)
    {
        long observed = 0;
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 64, maxSequences: 6, maxBatchTokens: 24);
        (config.PrefixReuse, config.Policy) = (true, window == 0 ? null : new WindowPolicy(4, window));
        using (KvCache roomy = TestCaches.Reference(G, config))
        {
            config.MemoryBudgetBytes = roomy.BudgetBytes * 9 / 10;
        }

        var done = new Dictionary<string, int>();
        KvCache cache = TestCaches.Reference(G, config, (kind, bytes) => observed += kind == AllocationKind.Arena ? 0 : bytes);
        var random = new Random(seed);
        var live = new List<KvSequence>();
        for (int i = 0; i < 12_000 * Soak.Factor; i++)
        {
            try
            {
                string kind = Operate(cache, live, random, window > 0);
                done[kind] = done.GetValueOrDefault(kind) + 1;
                Assert.Equal(cache.AllocatedBytes, observed);
                CheckPool(cache, live);
                if (live.Count > 0)
                {
                    CheckContent(live[random.Next(live.Count)], format.IsFullPrecision());
                }
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}, operation {i}", e);
            }
        }

        output.WriteLine(string.Join(", ", done.Select(d => $"{d.Key} {d.Value}")));
        Assert.All(["open", "hit", "step", "refused", "fork", "cut", "free"], kind => Assert.True(done.GetValueOrDefault(kind) > 50, $"seed {seed}: {kind} ran {done.GetValueOrDefault(kind)} times"));
        live.ForEach(s => s.Dispose());
        CheckPool(cache, []);
        Assert.True(cache.TryClearPrefixes());
        Assert.Equal((0L, cache.State.Pool.SlabCount, default), (cache.CachedBytes, cache.State.Pool.FreeSlabs, cache.GetPageCounts()));
        KvSequence last = cache.CreateSequence();
        last.FeedMany(1, 12);
        last.Dispose();
        cache.Dispose();
        Assert.Equal(0, observed);
    }

    private static string Operate(KvCache cache, List<KvSequence> live, Random random, bool windowed)
    {
        int choice = live.Count == 0 ? 0 : random.Next(100);
        KvSequence? some = live.Count == 0 ? null : live[random.Next(live.Count)];
        switch (choice)
        {
            case < 18 when live.Count < 6:
                KvSequence made = cache.CreateSequence(new KvSequenceOptions { Tenant = random.Next(3) == 0 ? "b" : null });
                live.Add(made);
                return made.Reuse(Prompt(random)) > 0 ? "hit" : "open";
            case < 60:
                int[] ids = Next(some!, random);
                bool fits = some!.CanAppend(ids.Length);
                CheckForecast(cache, some, ids.Length, fits, random);
                Assert.Equal(fits, some.TryBegin(ids, out KvStep step));
                if (!fits)
                {
                    return "refused";
                }

                TestCaches.AppendAll(step, G, ids);
                if (random.Next(5) > 0)
                {
                    step.Commit();
                }

                step.Dispose();
                return "step";
            case < 68 when live.Count < 6:
                try
                {
                    live.Add(some!.Fork());
                    return "fork";
                }
                catch (KvOutOfMemoryException)
                {
                    return "fork refused";
                }

            case < 80:
                some!.Truncate(random.Next(windowed ? Math.Max(0, some.Length - 6) : 0, some.Length + 1));
                return "cut";
            default:
                live.Remove(some!);
                some!.Dispose();
                return "free";
        }
    }

    private static int[] Prompt(Random random) => [.. Enumerable.Range(0, 60).Select(i => (i * 4) + (random.Next(12) == 0 ? 1 : 0))];

    private static int[] Next(KvSequence sequence, Random random) =>
        [.. Enumerable.Range(sequence.Length, 1 + random.Next(20)).Select(i => (i * 4) + (random.Next(12) == 0 ? 1 : 0))];

    // The cache's forecast of what fits stays true while it gives up cached pages.
    private static void CheckForecast(KvCache cache, KvSequence sequence, int tokens, bool fits, Random random)
    {
        if (random.Next(8) == 0 || !fits)
        {
            while (random.Next(20) > 0 && cache.State.Prefixes!.Index.Evict() > 0)
            {
                Assert.Equal(fits, sequence.CanAppend(tokens));
            }
        }
    }

    private static void CheckPool(KvCache cache, List<KvSequence> live)
    {
        var references = new Dictionary<int, int>();
        foreach (PageTable table in live.Select(s => s.State.Table))
        {
            for (int row = 0; row < table.Rows; row++)
            {
                for (int entry = 0; entry < table.Count(row); entry++)
                {
                    int slot = table.Slot(row, entry);
                    references[slot] = references.GetValueOrDefault(slot) + 1;
                }
            }
        }

        PrefixPages pages = cache.State.Prefixes!;
        var indexed = new HashSet<int>();
        long cached = 0;
        for (int block = 1; block < pages.Index.Count; block++)
        {
            if (pages.Index[block].Hash.IsNull)
            {
                Assert.Equal(0, pages.Index[block].References);
                continue;
            }

            foreach (int slot in pages.SlotsOf(block))
            {
                Assert.True(indexed.Add(slot), "a page has one block");
                Assert.Equal(references.GetValueOrDefault(slot) + 1, cache.State.Pool.References(slot));
                cached += references.ContainsKey(slot) ? 0 : cache.State.Tier.Shape.Classes[KernelShape.Sealed].Bytes;
            }
        }

        Assert.Equal(cached, cache.CachedBytes);
        Assert.All(references.Where(r => !indexed.Contains(r.Key)), r => Assert.Equal(r.Value, cache.State.Pool.References(r.Key)));
        KvPageCounts counts = cache.GetPageCounts();
        Assert.Equal(references.Keys.Union(indexed).Count(), counts.Open + counts.Sealed);
        Assert.True(cache.AllocatedBytes <= cache.BudgetBytes, "over budget");
    }

    private static void CheckContent(KvSequence sequence, bool exact)
    {
        var positions = new int[sequence.ResidentTokens(1, 1)];
        sequence.ResidentPositions(1, 1, positions);
        int[] ids = sequence.TokenIds.ToArray();
        float[] expected = TokenContent.Keys(G, 1, [.. positions.Select(p => ids[p])]);
        expected = [.. expected.Chunk(G.KvHeads * G.KeyWidth).SelectMany(keys => keys[G.KeyWidth..(2 * G.KeyWidth)])];

        // One head alone: short of room, the policy drops more pages of some heads than of others.
        float[] actual = new float[expected.Length];
        Assert.Equal(positions.Length, sequence.Materialize(1, 1, actual, []));
        Assert.Equal(expected, actual, (a, b) => exact ? a == b : Math.Abs(a - b) < 0.4f);
    }
}
