using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Rows whose pages are hidden from some launches: from each launch all but the last ones, where queries stand, beside others that are shown in their place. Disposed, they list what they
/// listed before.
/// </summary>
internal sealed class HiddenRows(KernelTier tier) : IDisposable
{
    private readonly List<(PageTable Table, int Row, (int Slot, int Tag)[] Entries)> _rows = [];

    /// <summary>Notes a row, as the next one; what it lists is hidden by <see cref="Show"/>.</summary>
    public void Add(PageTable table, int row) =>
        _rows.Add((table, row, [.. Enumerable.Range(0, table.Count(row)).Select(entry => (table.Slot(row, entry), TableMap.Tag(table.PageClass(row, entry), table.PageIndex(row, entry))))]));

    /// <summary>Lets a row list some pages, and of its own only the last ones.</summary>
    /// <param name="place">Which of the rows that were added.</param>
    /// <param name="pages">The pages, ascending, all before its last ones.</param>
    /// <param name="firstOfLast">Page index of the first of its last ones.</param>
    public void Show(int place, ReadOnlySpan<StagedPage> pages, int firstOfLast)
    {
        (PageTable table, int row, (int Slot, int Tag)[] entries) = _rows[place];
        int own = Array.FindIndex(entries, entry => TableMap.PageIndexOf(entry.Tag) >= firstOfLast);
        tier.WriteCount(table.Sequence, row, pages.Length + entries.Length - own);
        for (int entry = 0; entry < pages.Length; entry++)
        {
            tier.WriteEntry(table.Sequence, row, entry, pages[entry].Slot, TableMap.Tag(pages[entry].Class, pages[entry].Page));
        }

        Write(table, row, pages.Length, entries.AsSpan(own));
    }

    public void Dispose()
    {
        foreach ((PageTable table, int row, (int Slot, int Tag)[] entries) in _rows)
        {
            tier.WriteCount(table.Sequence, row, entries.Length);
            Write(table, row, 0, entries);
        }

        _rows.Clear();
    }

    private void Write(PageTable table, int row, int first, ReadOnlySpan<(int Slot, int Tag)> entries)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            tier.WriteEntry(table.Sequence, row, first + i, entries[i].Slot, entries[i].Tag);
        }
    }
}
