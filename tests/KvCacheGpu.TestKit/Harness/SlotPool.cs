using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// Hands out slots, for pages and for leaves of the tables, in shuffled order, filled with NaN: results must not depend on placement, nor on words that were not written.
/// If the device can, a free slot is also forbidden, so that access to it fails.
/// </summary>
public sealed class SlotPool
{
    private const int Poison = unchecked((int)0xFFFF_FFFF);

    private readonly KernelTier _tier;
    private readonly DevicePoison? _guard;
    private readonly Stack<int> _free;
    private readonly int[] _poison;

    /// <summary>Lays out <paramref name="slots"/> slots, each as large as the largest class and as a leaf, behind the root of the tables.</summary>
    public SlotPool(KernelTier tier, int slots, int seed)
    {
        (_tier, _guard) = (tier, DevicePoison.Of(tier));
        int units = Units(tier.Shape);
        int[] order = [.. Enumerable.Range(0, slots).Select(i => tier.Map.FirstPageUnit + (i * units))];
        new Random(seed).Shuffle(order);
        _free = new Stack<int>(order);
        _poison = new int[units * PageLayout.UnitWords];
        Array.Fill(_poison, Poison);
        Array.ForEach(order, Fill);
    }

    /// <summary>Units of one slot.</summary>
    public static int Units(KernelShape shape) => Math.Max(shape.Classes.Max(layout => layout.Units), new TableMap(shape).LeafUnits);

    /// <summary>Takes a slot.</summary>
    public int Take()
    {
        int slot = _free.Pop();
        _guard?.Heal(FirstWord(slot), _poison.Length);
        return slot;
    }

    /// <summary>Gives a slot back. Whoever still reads it reads NaN.</summary>
    public void Release(int slot)
    {
        Fill(slot);
        _free.Push(slot);
    }

    private void Fill(int slot)
    {
        _tier.Load(FirstWord(slot), _poison);
        _guard?.Mark(FirstWord(slot), _poison.Length);
    }

    private static long FirstWord(int slot) => (long)slot * PageLayout.UnitWords;
}
