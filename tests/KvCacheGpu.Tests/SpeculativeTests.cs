namespace KvCacheGpu.Tests;

/// <summary>Drafts that are rolled back leave nothing behind.</summary>
public sealed class SpeculativeTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, false, 1)]
    [InlineData(PageFormat.F16, true, 2)]
    [InlineData(PageFormat.BF16, false, 3)]
    public void Ten_thousand_rollbacks_are_a_straight_run_bit_for_bit(PageFormat format, bool reuse, int seed)
    {
        const int Rollbacks = 3_400;
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 512);
        using KvCache plain = TestCaches.Simd(G, config);
        config.PrefixReuse = reuse;
        using KvCache cache = TestCaches.Simd(G, config);
        var random = new Random(seed);
        KvSequence straight = plain.CreateSequence();
        KvSequence rolled = cache.CreateSequence();
        for (int i = 0, rollbacks = 0; rollbacks < Rollbacks; i++)
        {
            if (rolled.Length > 480)
            {
                Assert.Equal(straight.Materialized(1).Keys, rolled.Materialized(1).Keys);
                Assert.Equal(straight.Materialized(0).Values, rolled.Materialized(0).Values);
                straight.Dispose();
                rolled.Dispose();
                (straight, rolled) = (plain.CreateSequence(), cache.CreateSequence());
            }

            int[] draft = [.. Enumerable.Range(0, 1 + random.Next(G.PageTokens)).Select(_ => random.Next(ToyModel.Vocabulary))];
            rolled.Feed(draft);
            int back = random.Next(draft.Length + 1);
            rollbacks += back > 0 ? 1 : 0;
            Assert.Equal(0, rolled.Truncate(rolled.Length - back).ReencodedPages);
            for (int kept = 0; kept < draft.Length - back; kept++)
            {
                straight.Feed(draft[kept]);
            }

            int next = random.Next(ToyModel.Vocabulary);
            Assert.True(straight.Read([next]) == rolled.Read([next]), $"seed {seed}, rollback {i}, length {rolled.Length}");
        }
    }
}
