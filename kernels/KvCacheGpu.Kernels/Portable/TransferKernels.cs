using ILGPU;

namespace KvCacheGpu.Kernels;

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

    /// <summary>Host to arena.</summary>
    /// <param name="arena">Arena.</param>
    /// <param name="host">The block in which all pages of the launch lie.</param>
    /// <param name="list">Describes the pages; it may lie in host memory.</param>
    /// <param name="first">The first of the launch's pages in the list.</param>
    /// <param name="parts">Groups for each page.</param>
    public static void Load(ArrayView<long> arena, ArrayView<long> host, ArrayView<int> list, int first, int parts)
    {
        int page = (first + (Grid.IdxX / parts)) * ListWords;
        int part = Grid.IdxX % parts * PartUnits;
        int end = End(list[page + 2], part);
        long to = ((long)list[page] + part) * UnitLongs;
        long from = ((long)list[page + 1] + part) * UnitLongs;
        for (int i = Group.IdxX; i < end; i += Group.DimX)
        {
            arena[to + i] = host[from + i];
        }
    }

    /// <summary>Arena to host.</summary>
    /// <inheritdoc cref="Load" path="/param"/>
    public static void Unload(ArrayView<long> arena, ArrayView<long> host, ArrayView<int> list, int first, int parts)
    {
        int page = (first + (Grid.IdxX / parts)) * ListWords;
        int part = Grid.IdxX % parts * PartUnits;
        int end = End(list[page + 2], part);
        long from = ((long)list[page] + part) * UnitLongs;
        long to = ((long)list[page + 1] + part) * UnitLongs;
        for (int i = Group.IdxX; i < end; i += Group.DimX)
        {
            host[to + i] = arena[from + i];
        }
    }

    // Longs of a part; none of one that lies behind a page that is smaller than others.
    private static int End(int units, int part)
    {
        int left = units - part;
        return (left < PartUnits ? left : PartUnits) * UnitLongs;
    }
}
