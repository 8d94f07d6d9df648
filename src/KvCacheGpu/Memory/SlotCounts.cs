using System.Numerics;
using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Slots by what lies in them: pages by class, and leaves of tables.</summary>
[InlineArray(Kinds)]
internal struct SlotCounts
{
    /// <summary>The place of the leaves, behind all page classes.</summary>
    public const int Leaf = KernelShape.MaxClasses;

    /// <summary>Page classes, and leaves.</summary>
    public const int Kinds = Leaf + 1;

    private int _first;

    /// <summary>Over all kinds.</summary>
    public readonly int Total
    {
        get
        {
            int total = 0;
            foreach (int count in this)
            {
                total += count;
            }

            return total;
        }
    }

    public static SlotCounts operator +(SlotCounts a, SlotCounts b)
    {
        for (int c = 0; c < Kinds; c++)
        {
            a[c] += b[c];
        }

        return a;
    }

    /// <summary>Where each kind's slots begin among all that were taken, which come kind after kind.</summary>
    public readonly SlotCounts Starts()
    {
        SlotCounts starts = default;
        for (int c = 1; c < Kinds; c++)
        {
            starts[c] = starts[c - 1] + this[c - 1];
        }

        return starts;
    }

    /// <summary>Slots of one page class, or of leaves.</summary>
    public static SlotCounts Of(int kind, int count)
    {
        SlotCounts counts = default;
        counts[kind] = count;
        return counts;
    }
}

/// <summary>What something would take: slots, and bytes of bookkeeping beside them.</summary>
internal readonly record struct Want(SlotCounts Slots, long Bytes)
{
    public static Want operator +(in Want a, in Want b) => new(a.Slots + b.Slots, a.Bytes + b.Bytes);
}

/// <summary>Bytes of bookkeeping of one sequence, by the leaves that its table has.</summary>
/// <param name="Fixed">Bytes of one without tokens.</param>
/// <param name="OfLeaf">Bytes of token ids, hashes and so on for each leaf that there is room for.</param>
/// <param name="OfOpenLeaf">Bytes of host memory of each leaf that is open (<see cref="KernelTier.LeafHostBytes"/>).</param>
/// <param name="MostLeaves">Leaves of the longest sequence.</param>
internal readonly record struct SequenceSize(long Fixed, long OfLeaf, long OfOpenLeaf, int MostLeaves)
{
    /// <summary>Leaves that a sequence of so many makes room for: a power of two, so that arrays are copied a few times only while it grows.</summary>
    public int Capacity(int leaves) => leaves == 0 ? 0 : Math.Min(MostLeaves, (int)BitOperations.RoundUpToPowerOf2((uint)leaves));

    /// <summary>Bytes of a sequence of so many leaves.</summary>
    public long Bytes(int leaves) => Fixed + (Capacity(leaves) * OfLeaf) + (leaves * OfOpenLeaf);
}
