using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The entries of a row that a warp reads in order. Each lane holds one of the next entries, up to 32 of a leaf, and gives it to the others when its turn comes: no page waits for
/// its own tag and slot, and the addresses of leaves are looked up once for many pages.
/// </summary>
internal struct TableCursor
{
    // Entry e of them is in lane e mod 32, which is how shuffles read a lane's number. The first place of the row in a leaf; the entry behind those that the lanes hold, and the last one of the row.
    private int _row;
    private int _end;
    private int _last;

    // Page indices, -1 for pages of other classes than are read; slots.
    private int _pages;
    private int _slots;

    // The slots of the leaves where the statistics of the entries' pages lie. Where pages were evicted they are other ones than the entries' own leaves.
    private int _statistics;

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    [MethodImpl(Inlined)]
    public static TableCursor Of(QueryRange range, int layer, KernelDims dims)
    {
        TableCursor cursor = default;
        cursor._row = dims.InLeaf(layer, range.Head, 0);
        cursor._end = range.First;
        cursor._last = range.Last - 1;
        return cursor;
    }

    /// <summary>Sees to it that some lane holds an entry. Every lane of the warp takes part.</summary>
    [MethodImpl(Inlined)]
    public void Reach(ArrayView<int> arena, int sequence, int entry, int classes, KernelDims dims)
    {
        // A loop, though it turns once at most: ptxas would make a condition of every instruction, and each page would run them.
        while (entry >= _end)
        {
            int count = 1 << (dims.LeafShift < 5 ? dims.LeafShift : 5);
            int first = entry & -count;
            int own = first + (Group.IdxX & (count - 1));
            own = own < _last ? own : _last;
            ArrayView<int> leaf = dims.Leaf(arena, sequence, entry);
            int at = _row + (own & ((1 << dims.LeafShift) - 1));
            _slots = leaf[at];
            int tag = leaf[dims.LeafTags + at];
            _pages = ((classes >> TableMap.ClassOf(tag)) & 1) == 0 ? -1 : TableMap.PageIndexOf(tag);
            _statistics = arena[dims.DirectoryWord(sequence, TableMap.PageIndexOf(tag))];
            _end = first + count;
        }
    }

    /// <summary>The page index of an entry that was reached, -1 if its page is not to be read. Every lane of the warp takes part.</summary>
    [MethodImpl(Inlined)]
    public readonly int Page(int entry) => Warp.Shuffle(_pages, entry);

    /// <summary>Its slot.</summary>
    [MethodImpl(Inlined)]
    public readonly int Slot(int entry) => Warp.Shuffle(_slots, entry);

    /// <summary>The statistics of an entry's page, two words for each query head of the group. Every lane of the warp takes part.</summary>
    [MethodImpl(Inlined)]
    public readonly ArrayView<int> Statistics(ArrayView<int> arena, int entry, int page, KernelDims dims)
    {
        int at = _row + (page & ((1 << dims.LeafShift) - 1));
        ArrayView<int> leaf = arena.Cast<Unit>().SubView(Warp.Shuffle(_statistics, entry)).Cast<int>();
        return leaf.SubView(dims.LeafStats + (at * dims.GroupSize * 2));
    }
}
