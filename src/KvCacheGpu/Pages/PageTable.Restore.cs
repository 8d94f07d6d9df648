using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>The rows' part in restoring a sequence. The gate is held.</content>
internal sealed unsafe partial class PageTable
{
    /// <summary>The first page that a sequence may have open.</summary>
    /// <param name="length">Tokens.</param>
    /// <param name="pageTokens">Tokens of a page.</param>
    public static int FirstOpenOf(int length, int pageTokens) => Math.Max(0, (length / pageTokens) - 1);

    /// <summary>Makes an empty table one of so many tokens, whose entries follow by <see cref="List"/>.</summary>
    /// <param name="length">Tokens.</param>
    /// <param name="firstOpen">First page that is open: <see cref="FirstOpenOf"/> at least.</param>
    public void Begin(int length, int firstOpen) => (Length, _firstOpen) = (length, firstOpen);

    /// <summary>Lists a page as the next of a row. The reference to it becomes the row's.</summary>
    public void List(int row, int page, int slot, int pageClass)
    {
        int entry = Count(row);
        Set(row, entry, slot, TableMap.Tag(pageClass, page));
        SetCount(row, entry + 1);
    }
}
