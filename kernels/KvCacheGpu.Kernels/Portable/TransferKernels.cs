using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>One launch of <see cref="TransferKernels.Copy"/>, passed by value.</summary>
/// <param name="first">The first of its pages in the list.</param>
/// <param name="parts">Groups for each page.</param>
/// <param name="loads">Not 0: from the host to the arena; 0: back.</param>
internal readonly struct TransferDims(int first, int parts, int loads)
{
    public readonly int First = first;
    public readonly int Parts = parts;
    public readonly int Loads = loads;
}

/// <summary>
/// Copies pages between the arena and page-locked host memory, which the device reads and writes over the bus by itself: one launch for many pages, where a copy each would cost more than its bytes.
/// A group takes a part of a page, so that few pages keep the bus busy too.
/// </summary>
internal static class TransferKernels
{
    /// <summary>Words that describe one page: its slot, its first unit in the host's block, its units.</summary>
    public const int ListWords = 3;

    /// <summary>Units that one group copies.</summary>
    public const int PartUnits = 64;

    private const int UnitLongs = PageLayout.UnitBytes / sizeof(long);

    /// <summary>Copies pages.</summary>
    /// <param name="arena">Arena.</param>
    /// <param name="host">The block in which all pages of the launch lie.</param>
    /// <param name="list">Describes the pages; it may lie in host memory.</param>
    /// <param name="call">Which of them, and which way.</param>
    public static void Copy(ArrayView<long> arena, ArrayView<long> host, ArrayView<int> list, TransferDims call)
    {
        int page = (call.First + (Grid.IdxX / call.Parts)) * ListWords;
        int part = Grid.IdxX % call.Parts * PartUnits;
        int end = End(list[page + 2], part);
        long slot = ((long)list[page] + part) * UnitLongs;
        long place = ((long)list[page + 1] + part) * UnitLongs;
        for (int i = Group.IdxX; i < end; i += Group.DimX)
        {
            if (call.Loads != 0)
            {
                arena[slot + i] = host[place + i];
            }
            else
            {
                host[place + i] = arena[slot + i];
            }
        }
    }

    // Longs of a part; none of one that lies behind a page that is smaller than others.
    private static int End(int units, int part)
    {
        int left = units - part;
        return (left < PartUnits ? left : PartUnits) * UnitLongs;
    }
}
