using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A page that a row lists for one attention.</summary>
internal readonly record struct StagedPage(int Page, int Slot, int Class);

/// <summary>
/// Lists pages in a row for one attention, and takes them out again. They lie among the row's own, ascending by page index, as kernels expect; references, counts of pages, and all that
/// a step has to undo stay as they are.
/// </summary>
internal static class StagedRow
{
    /// <summary>Lists pages that the row does not list.</summary>
    /// <param name="tier">Holds the tables.</param>
    /// <param name="table">The sequence's table.</param>
    /// <param name="row">Row.</param>
    /// <param name="pages">The pages, ascending.</param>
    public static void List(KernelTier tier, PageTable table, int row, ReadOnlySpan<StagedPage> pages)
    {
        int own = table.Count(row);
        int left = pages.Length;
        tier.WriteCount(table.Sequence, row, own + left);

        // From the end on: what moves has been read by then.
        for (int target = own + left - 1; left > 0; target--)
        {
            if (own > 0 && table.PageIndex(row, own - 1) > pages[left - 1].Page)
            {
                own--;
                Move(tier, table, row, own, target);
            }
            else
            {
                left--;
                tier.WriteEntry(table.Sequence, row, target, pages[left].Slot, TableMap.Tag(pages[left].Class, pages[left].Page));
            }
        }
    }

    /// <summary>Takes the pages out.</summary>
    /// <inheritdoc cref="List" path="/param"/>
    public static void Unlist(KernelTier tier, PageTable table, int row, ReadOnlySpan<StagedPage> pages)
    {
        int kept = 0;
        int next = 0;
        int count = table.Count(row);
        for (int entry = 0; entry < count; entry++)
        {
            if (next < pages.Length && table.PageIndex(row, entry) == pages[next].Page)
            {
                next++;
                continue;
            }

            if (kept != entry)
            {
                Move(tier, table, row, entry, kept);
            }

            kept++;
        }

        tier.WriteCount(table.Sequence, row, kept);
    }

    private static void Move(KernelTier tier, PageTable table, int row, int from, int to) =>
        tier.WriteEntry(table.Sequence, row, to, table.Slot(row, from), TableMap.Tag(table.PageClass(row, from), table.PageIndex(row, from)));
}
