using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Slots by page class.</summary>
[InlineArray(KernelShape.MaxClasses)]
internal struct SlotCounts
{
    private int _first;

    /// <summary>Over all classes.</summary>
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
        for (int c = 0; c < KernelShape.MaxClasses; c++)
        {
            a[c] += b[c];
        }

        return a;
    }

    /// <summary>Slots of one class.</summary>
    public static SlotCounts Of(int pageClass, int count)
    {
        SlotCounts counts = default;
        counts[pageClass] = count;
        return counts;
    }
}
