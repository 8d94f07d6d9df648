using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>The rows' part in restoring a sequence. The gate is held.</content>
internal sealed unsafe partial class PageTable
{
    /// <summary>Makes an empty table one of so many tokens, whose entries follow by <see cref="List"/>.</summary>
    public void Begin(int length, int firstOpen) => (Length, _firstOpen) = (length, firstOpen);

    /// <summary>Lists a page as the next of a row. The reference to it becomes the row's.</summary>
    public void List(int row, int page, int slot, int pageClass)
    {
        int entry = Count(row);
        Set(row, entry, slot, TableMap.Tag(pageClass, page));
        SetCount(row, entry + 1);
    }
}
