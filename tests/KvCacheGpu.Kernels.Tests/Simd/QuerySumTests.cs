using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Tables of key scales and sums of queries in host memory: threads, and bytes.</summary>
public class QuerySumTests
{
    private static readonly KvGeometry Geometry = new(2, 4, 2, 64, pageTokens: 16);

    [Fact]
    public void Batches_on_many_threads_add_all_their_queries()
    {
        using TierHarness harness = Filled(out HarnessSequence sequence);
        harness.Tier.SumsQueries = true;
        var threads = new Thread[4];
        for (int i = 0; i < threads.Length; i++)
        {
            float size = 1 << i;
            threads[i] = new Thread(() =>
            {
                using KernelBatch batch = harness.Tier.CreateBatch(1, 1);
                batch.Begin([new RaggedSequence(sequence.Slot, 0, 1, sequence.Length, KeepsStatistics: true)]);
                float[] queries = [.. Enumerable.Repeat(size, 4 * 64)];
                for (int n = 0; n < 64; n++)
                {
                    batch.Attend(1, queries, new float[4 * 64]);
                }
            });
            threads[i].Start();
        }

        Array.ForEach(threads, thread => thread.Join());
        var sums = new float[2 * 2 * 64];
        harness.Tier.ReadQuerySums(sums);
        Assert.All(sums[..128], sum => Assert.Equal(0, sum));
        Assert.All(sums[128..], sum => Assert.Equal(64 * 2 * (1 + 4 + 16 + 64), sum));
    }

    [Fact]
    public void Attention_under_a_table_allocates_nothing()
    {
        using TierHarness harness = Filled(out HarnessSequence sequence);
        using KernelBatch batch = harness.Tier.CreateBatch(1, 1);
        batch.Begin([new RaggedSequence(sequence.Slot, 0, 1, sequence.Length, KeepsStatistics: true, KeyTable: 1)]);
        (float[] queries, float[] output) = (new float[4 * 64], new float[4 * 64]);
        harness.Tier.SumsQueries = true;
        batch.Attend(0, queries, output);
        Assert.Equal(0, Allocations.Of(() => batch.Attend(0, queries, output)));
    }

    [Theory]
    [InlineData(PageFormat.I8, PageFormat.I8, 0)]
    [InlineData(PageFormat.T2, PageFormat.I8, (KernelTier.KeyTables + 1) * 2 * 2 * 64 * sizeof(float))]
    public void Memory_is_taken_where_a_format_is_scaled(PageFormat key, PageFormat value, long expected)
    {
        var held = new Dictionary<AllocationKind, long>();
        var tier = new SimdTier(Shapes.Mixed(Geometry, PageFormat.F16, key, value), 1 << 20, observer: (kind, bytes) => held[kind] = held.GetValueOrDefault(kind) + bytes);

        // The rotation's own tables, of keys and of values: three each.
        Assert.Equal(expected + (2 * 3 * 128 * sizeof(float)), held[AllocationKind.Bookkeeping]);
        tier.Dispose();
        Assert.All(held.Values, bytes => Assert.Equal(0, bytes));
    }

    private static TierHarness Filled(out HarnessSequence sequence)
    {
        var harness = new TierHarness(
            (shape, bytes) => new SimdTier(shape, bytes), Shapes.Mixed(Geometry, PageFormat.F16, PageFormat.T4, PageFormat.V4), 60);
        harness.SetKeyScales(1, new KvKeyScales(Geometry, [.. Enumerable.Range(0, 2 * 2 * 64).Select(i => (byte)(i % 4))]));
        sequence = harness.Add(new SequenceData(Geometry, 64, 71));
        sequence.KeyTable = 1;
        harness.Fill(sequence, 64);
        return harness;
    }
}
