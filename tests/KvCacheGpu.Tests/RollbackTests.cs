using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>What is taken off within <see cref="KvCacheOptions.ExactRollbackTokens"/> was never there: pages are, bit for bit, those of a run without it.</summary>
public sealed class RollbackTests
{
    private const int Rounds = 12;

    public static TheoryData<int, int> Lengths()
    {
        var data = new TheoryData<int, int>();
        foreach (int pageTokens in (int[])[4, 16, 64])
        {
            foreach (int rollback in (int[])[0, 1, 5, 16, 63, 64, 65, 200])
            {
                data.Add(pageTokens, rollback);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Lengths))]
    public void Pages_are_those_of_a_run_without_rollbacks(int pageTokens, int rollback)
    {
        var geometry = new KvGeometry(layers: 3, queryHeads: 2, kvHeads: 1, keyWidth: 32, pageTokens: pageTokens);
        var random = new Random((pageTokens * 1000) + rollback);
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 6000, maxSequences: 6, maxBatchTokens: 300);
        config.LayerFormats = new Dictionary<int, KvFormats>
        {
            [1] = new(PageFormat.F32, PageFormat.F32),
            [2] = new(PageFormat.T4, PageFormat.V4),
        };
        config.ExactRollbackTokens = rollback;

        // Words of a slot that its page does not use are alike then.
        config.PoisonPages = true;
        config.PrefixReuse = rollback % 2 == 0;
        using KvCache cache = TestCaches.Simd(geometry, config);
        KvSequence rolled = cache.CreateSequence();
        KvSequence? fork = null;
        int next = 1;
        int longest = 0;
        for (int round = 0; round < Rounds; round++)
        {
            // The sequence takes tokens off, a fork of it goes on, and both share pages that are open still.
            Append(rolled, random.Next(1, 120), ref next, random);
            longest = Math.Max(longest, rolled.Length);
            int to = random.Next(Math.Max(0, longest - rollback), rolled.Length + 1);
            if (round % 3 == 0)
            {
                fork?.Dispose();
                fork = rolled.Fork();
                Append(fork, random.Next(1, 40), ref next, random);
            }

            Assert.Equal(new KvTruncation(to, 0), rolled.Truncate(to));
            if (round % 3 == 1)
            {
                Append(fork!, random.Next(1, 2 * pageTokens), ref next, random);
            }
        }

        foreach (KvSequence sequence in (KvSequence[])[rolled, fork!])
        {
            // Until all that it had is behind again what can be taken off, pages may be sealed that would be open.
            Append(sequence, Math.Max(1, longest + rollback + pageTokens - sequence.Length), ref next, random);
            using KvSequence straight = cache.CreateSequence();
            foreach (int[] ids in sequence.TokenIds.ToArray().Chunk(50))
            {
                straight.Feed(ids);
            }

            AssertSame(straight, sequence);
            Assert.Equal(straight.Decode(next), sequence.Decode(next));
        }
    }

    private static void Append(KvSequence sequence, int tokens, ref int next, Random random)
    {
        for (int end = next + tokens; next < end;)
        {
            int count = Math.Min(end - next, random.Next(1, 60));
            sequence.Feed([.. Enumerable.Range(next, count)]);
            next += count;
        }
    }

    private static void AssertSame(KvSequence expected, KvSequence actual)
    {
        (PageTable one, PageTable other) = (expected.State.Table, actual.State.Table);
        CacheState cache = expected.Cache.State;
        Assert.Equal((one.Length, one.FirstOpen, one.Leaves), (other.Length, other.FirstOpen, other.Leaves));
        for (int row = 0; row < one.Rows; row++)
        {
            Assert.Equal(one.Count(row), other.Count(row));
            for (int entry = 0; entry < one.Count(row); entry++)
            {
                Assert.Equal((one.PageIndex(row, entry), one.PageClass(row, entry)), (other.PageIndex(row, entry), other.PageClass(row, entry)));
                Assert.Equal(cache.Pool.EncodingsOf(one.Slot(row, entry)), cache.Pool.EncodingsOf(other.Slot(row, entry)));
                if (one.IsSealed(row, entry))
                {
                    Assert.Equal(Words(cache, one, row, entry), Words(cache, other, row, entry));
                }
            }
        }

        for (int layer = 0; layer < cache.Geometry.Layers; layer++)
        {
            Assert.Equal(expected.Materialized(layer).Keys, actual.Materialized(layer).Keys);
            Assert.Equal(expected.Materialized(layer).Values, actual.Materialized(layer).Values);
        }
    }

    private static int[] Words(CacheState cache, PageTable table, int row, int entry)
    {
        var words = new int[cache.Tier.Shape.Classes[table.PageClass(row, entry)].Bytes / sizeof(int)];
        cache.Tier.Read((long)table.Slot(row, entry) * PageLayout.UnitWords, words);
        return words;
    }
}
