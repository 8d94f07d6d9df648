namespace KvCacheGpu.Tests;

/// <summary>How much has to go so that a step fits, asked of an eviction that only takes notes.</summary>
public sealed class PressureTests
{
    private const long Missing = 1_000;

    private static readonly KvShortage LacksSlabs = new("a step", KvResource.SlabBytes, 3 * Missing, 2 * Missing);

    [Fact]
    public void Each_round_asks_for_more_but_never_for_more_than_a_slab_beyond_what_is_missing()
    {
        using KvCache cache = Cache();
        long slab = cache.State.Pool.SlabBytes;
        var notes = new Notes();
        for (int round = 0; round < 20; round++)
        {
            Assert.True(MakeWay(cache, notes, LacksSlabs, round));
        }

        Assert.Equal(Enumerable.Range(0, 20).Select(round => Missing + Math.Min(round * Missing, slab)), notes.Asked);
    }

    private static KvCache Cache()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new LruPolicy();
        return TestCaches.Reference(TestCaches.Tiny, config);
    }

    private static bool MakeWay(KvCache cache, Notes notes, in KvShortage shortage, int round)
    {
        using KvSequence sequence = cache.CreateSequence();
        cache.Pressure!.Eviction = notes;
        return cache.Pressure.MakeWay([sequence.State], shortage, round);
    }

    /// <summary>Has bytes enough, and gives what it is asked for.</summary>
    private sealed class Notes : IEviction
    {
        public List<long> Asked { get; } = [];

        public long Evictable(SequenceState sequence) => 1_000_000;

        public long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote)
        {
            Asked.Add(bytesToFree);
            return bytesToFree;
        }

        public void Compact(SequenceState sequence)
        {
        }

        public long Excess() => 0;

        public long OfWhole(long bytes) => bytes;
    }
}
