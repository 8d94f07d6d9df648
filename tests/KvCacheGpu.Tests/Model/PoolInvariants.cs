using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>What holds between a cache's tables and its pool after every operation.</summary>
internal sealed class PoolInvariants(KvCache cache)
{
    private readonly Dictionary<int, ulong> _sealedHashes = [];
    private readonly Dictionary<int, int> _references = [];
    private readonly Dictionary<int, int> _classes = [];
    private readonly List<int> _gone = [];

    private bool SealsInPlace => cache.Tier.Shape.Classes[KernelShape.Open] == cache.Tier.Shape.Classes[KernelShape.Sealed];

    public int SealedSeen { get; private set; }

    /// <summary>References are exact, free and referenced add up, rows ascend, bytes are what is live; sealed pages are as when they were sealed.</summary>
    public void Check(IReadOnlyList<ModelSequence> live, bool everyPage, Random random)
    {
        _references.Clear();
        _classes.Clear();
        foreach (ModelSequence model in live)
        {
            CountReferences(model.Sequence.Table);
        }

        // A page that one fork sealed in place stays sealed, whatever another still calls it.
        foreach (int slot in _sealedHashes.Keys)
        {
            if (_references.ContainsKey(slot))
            {
                Assert.True(_classes[slot] == KernelShape.Sealed || SealsInPlace, "a sealed page is never open again");
                _classes[slot] = KernelShape.Sealed;
            }
        }

        KvPageCounts counts = cache.GetPageCounts();
        Assert.Equal(_references.Count, counts.Open + counts.Sealed);
        int listedSealed = _classes.Values.Count(c => c == KernelShape.Sealed);
        if (SealsInPlace)
        {
            // A fork may have sealed a shared page and dropped it in one commit.
            Assert.InRange(counts.Sealed, listedSealed, _classes.Count);
        }
        else
        {
            Assert.Equal(listedSealed, counts.Sealed);
        }

        foreach ((int slot, int references) in _references)
        {
            Assert.Equal(references, cache.Pool.References(slot));
        }

        Assert.True(cache.AllocatedBytes <= cache.BudgetBytes, "over budget");
        CheckSealed(everyPage, random);
    }

    private void CountReferences(PageTable table)
    {
        for (int row = 0; row < table.Rows; row++)
        {
            int last = -1;
            for (int entry = 0; entry < table.Count(row); entry++)
            {
                int slot = table.Slot(row, entry);
                Assert.True(table.PageIndex(row, entry) > last, "rows ascend");
                last = table.PageIndex(row, entry);
                _references[slot] = _references.GetValueOrDefault(slot) + 1;
                _classes[slot] = Math.Max(table.PageClass(row, entry), _classes.GetValueOrDefault(slot));
            }
        }
    }

    private void CheckSealed(bool everyPage, Random random)
    {
        _gone.Clear();
        foreach (int slot in _sealedHashes.Keys)
        {
            if (_classes.GetValueOrDefault(slot, -1) != KernelShape.Sealed)
            {
                _gone.Add(slot);
            }
        }

        foreach (int slot in _gone)
        {
            _sealedHashes.Remove(slot);
        }

        foreach ((int slot, int pageClass) in _classes)
        {
            if (pageClass != KernelShape.Sealed)
            {
                continue;
            }

            if (!_sealedHashes.TryGetValue(slot, out ulong hash))
            {
                _sealedHashes[slot] = Hash(slot);
                SealedSeen++;
            }
            else if (everyPage || random.Next(16) == 0)
            {
                Assert.Equal(hash, Hash(slot));
            }
        }
    }

    private ulong Hash(int slot)
    {
        Span<int> words = stackalloc int[cache.Tier.Shape.Classes[KernelShape.Sealed].Units * PageLayout.UnitWords];
        cache.Tier.Read((long)slot * PageLayout.UnitWords, words);
        ulong hash = 14695981039346656037;
        foreach (int word in words)
        {
            hash = (hash ^ (uint)word) * 1099511628211;
        }

        return hash;
    }
}
