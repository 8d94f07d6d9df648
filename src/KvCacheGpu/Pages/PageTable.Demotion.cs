using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A page to write anew in another class.</summary>
/// <param name="Row">Row of the sequence: layer * KV heads + head.</param>
/// <param name="Page">Page index.</param>
/// <param name="Target">Page class that it shall be.</param>
internal readonly record struct PageDemotion(int Row, int Page, int Target);

/// <content>The rows' part in demotion.</content>
internal sealed unsafe partial class PageTable
{
    /// <summary>Whether an entry's page never changes again.</summary>
    public bool IsSealed(int row, int entry) => PageIndex(row, entry) < _firstOpen;

    /// <summary>Whether a sealed page may be demoted to a class: the layer allows it, and so does what it went through.</summary>
    public bool MayDemote(int row, int entry, int target) =>
        IsSealed(row, entry)
        && _classes.MayBecome(row / _heads, target)
        && Ladder.Allows(_classes.Shape.Classes[PageClass(row, entry)], _classes.Shape.Classes[target], _pool.EncodingsOf(Slot(row, entry)));

    /// <summary>Classes that a page may be demoted to, bit c for class c.</summary>
    public int Targets(int row, int entry)
    {
        // Kept pages hold what no other class can.
        int targets = PageClass(row, entry) == KernelShape.Open ? 0 : _classes.Targets;
        for (int left = targets; left != 0; left &= left - 1)
        {
            int target = int.TrailingZeroCount(left);
            targets &= MayDemote(row, entry, target) ? -1 : ~(1 << target);
        }

        return targets;
    }

    /// <summary>Says that no class holds a page but its own. The gate is held.</summary>
    public void RefuseDemotion(int row, int entry) => _pool.SetEncodings(Slot(row, entry), Encodings.Full);

    /// <summary>The move that writes a page's new form into a slot just taken.</summary>
    public PageMove DemotionOf(in PageDemotion page, int slot)
    {
        int entry = EntryOf(page.Row, page.Page);
        return new PageMove(
            Slot(page.Row, entry), PageClass(page.Row, entry), Fresh(slot, page.Target), page.Target, TokensIn(page.Row, entry));
    }

    /// <summary>Lists a copy of an entry's page that one token was changed in. The gate is held.</summary>
    /// <param name="row">Row.</param>
    /// <param name="entry">Entry.</param>
    /// <param name="slot">The copy, just taken.</param>
    /// <param name="pageClass">Its class.</param>
    public void PublishReplaced(int row, int entry, int slot, int pageClass)
    {
        if (IsSealed(row, entry))
        {
            Swap(row, entry, slot, pageClass);
            return;
        }

        int before = Slot(row, entry);
        _pool.SetEncodings(slot, _pool.EncodingsOf(before));
        Set(row, entry, slot, TableMap.Tag(pageClass, PageIndex(row, entry)));
        _pool.Release(before);
    }

    /// <summary>Lists a page's new form, or gives its slot back where the page stays as it is. The gate is held.</summary>
    public void PublishDemoted(in PageDemotion page, int slot, bool kept)
    {
        if (kept)
        {
            _pool.Release(slot);
        }
        else
        {
            Swap(page.Row, EntryOf(page.Row, page.Page), slot, page.Target);
        }
    }
}
