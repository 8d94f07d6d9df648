using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>What holds between a cache's tables and its pool after every operation.</summary>
internal sealed class PoolInvariants
{
    private readonly KvCache _cache;
    private readonly Dictionary<int, ulong> _sealedHashes = [];
    private readonly Dictionary<int, int> _references = [];
    private readonly Dictionary<int, int> _classes = [];

    public PoolInvariants(KvCache cache)
    {
        _cache = cache;
        cache.State.Pool.Freed = (slot, _) => _sealedHashes.Remove(slot);
    }

    public int SealedSeen { get; private set; }

    /// <summary>References are exact, free and referenced add up, rows ascend, bytes are what is live; sealed pages are as when they were sealed.</summary>
    public void Check(IReadOnlyList<ModelSequence> live, bool everyPage, Random random)
    {
        _references.Clear();
        _classes.Clear();
        foreach (ModelSequence model in live)
        {
            CountReferences(model.Sequence.State.Table);
        }

        KvPageCounts counts = _cache.GetPageCounts();
        Assert.Equal(_references.Count, counts.Open + counts.Sealed);
        Assert.Equal(_classes.Keys.Count(_cache.State.Pool.IsSealed), counts.Sealed);
        foreach (IGrouping<KvFormats, int> slots in _classes.GroupBy(c => _cache.State.Classes.FormatsOf(c.Value), c => c.Key))
        {
            int open = slots.Count(slot => !_cache.State.Pool.IsSealed(slot));
            PageLayout layout = _cache.State.Tier.Shape.Classes[_classes[slots.First()]];
            Assert.Contains(new KvFormatPages(slots.Key, open, slots.Count() - open, (long)slots.Count() * layout.Bytes), counts.ByFormats);
        }

        Assert.Equal(_references.Count, counts.ByFormats.Sum(f => f.Open + f.Sealed));
        foreach ((int slot, int references) in _references)
        {
            Assert.Equal(references, _cache.State.Pool.References(slot));
        }

        Assert.True(_cache.AllocatedBytes <= _cache.BudgetBytes, "over budget");
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
                Assert.True(!table.IsSealed(row, entry) || _cache.State.Pool.IsSealed(slot), "what the table calls sealed is");
                _references[slot] = _references.GetValueOrDefault(slot) + 1;

                // A page that one fork sealed in place stays open in another's table, in the same layout.
                int pageClass = table.PageClass(row, entry);
                Assert.Equal(_cache.State.Tier.Shape.Classes[pageClass].Bytes, _cache.State.Tier.Shape.Classes[_classes.GetValueOrDefault(slot, pageClass)].Bytes);
                _classes[slot] = Math.Max(pageClass, _classes.GetValueOrDefault(slot));
            }
        }
    }

    private void CheckSealed(bool everyPage, Random random)
    {
        foreach (int slot in _sealedHashes.Keys)
        {
            Assert.True(!_classes.ContainsKey(slot) || _cache.State.Pool.IsSealed(slot), "a sealed page is never open again");
        }

        foreach ((int slot, int pageClass) in _classes)
        {
            if (!_cache.State.Pool.IsSealed(slot))
            {
                continue;
            }

            if (!_sealedHashes.TryGetValue(slot, out ulong hash))
            {
                _sealedHashes[slot] = Hash(slot, pageClass);
                SealedSeen++;
            }
            else if (everyPage || random.Next(16) == 0)
            {
                Assert.Equal(hash, Hash(slot, pageClass));
            }
        }
    }

    private ulong Hash(int slot, int pageClass)
    {
        Span<int> words = stackalloc int[_cache.State.Tier.Shape.Classes[pageClass].Units * PageLayout.UnitWords];
        _cache.State.Tier.Read((long)slot * PageLayout.UnitWords, words);
        ulong hash = 14695981039346656037;
        foreach (int word in words)
        {
            hash = (hash ^ (uint)word) * 1099511628211;
        }

        return hash;
    }
}
