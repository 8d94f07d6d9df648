using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Clears what a slot still holds before the first write of a page: nothing of another owner may stay and, for finding errors, it is poisoned.</summary>
internal sealed class PageScrub
{
    /// <summary>A NaN in every format, and for I8 in its scales.</summary>
    public const int FreshWord = 0x7FC07FC0;

    /// <summary>The word that freed pages are filled with.</summary>
    public const int FreedWord = unchecked((int)0xDBDBDBDB);

    private readonly KernelTier _tier;
    private readonly Gate _deviceGate;
    private readonly PagePool _pool;
    private readonly int[] _zeros;
    private readonly int[]? _fresh;

    public PageScrub(KernelTier tier, Gate deviceGate, PagePool pool, bool poison)
    {
        (_tier, _deviceGate, _pool) = (tier, deviceGate, pool);
        int most = Math.Max(tier.Map.LeafUnits, tier.Shape.Classes.Max(layout => layout.Units)) * PageLayout.UnitWords;
        _zeros = new int[most];
        if (poison)
        {
            (_fresh, int[] freed) = (new int[most], new int[most]);
            Array.Fill(_fresh, FreshWord);
            Array.Fill(freed, FreedWord);
            pool.Freed = (slot, units) => Fill(slot, units, freed);
        }
    }

    /// <summary>Readies a slot that was taken for an owner's page, or leaf.</summary>
    public void Prepare(int slot, int kind, int owner)
    {
        bool isOthers = _pool.Claim(slot, owner);
        if (_fresh is not null || isOthers)
        {
            Fill(slot, kind == SlotCounts.Leaf ? _tier.Map.LeafUnits : _tier.Shape.Classes[kind].Units, _fresh ?? _zeros);
        }
    }

    private void Fill(int slot, int units, int[] words)
    {
        using (_deviceGate.Enter())
        {
            _tier.Load((long)slot * PageLayout.UnitWords, words.AsSpan(0, units * PageLayout.UnitWords));
        }
    }
}
