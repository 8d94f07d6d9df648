using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Sealed pages written anew in fewer bits.</content>
public sealed partial class KvSequence
{
    private const int DemotedAtOnce = 64;

    /// <summary>
    /// Writes a sealed page anew in smaller formats and lists it in place of what it was; others that share that keep it, and so does what can
    /// be reused of it (<see cref="Reuse"/>).
    /// </summary>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="page">Page index: first position / page tokens.</param>
    /// <param name="formats">One of <see cref="KvCacheOptions.DemotionFormats"/>.</param>
    /// <returns>False where the formats cannot hold the page (a number that is not finite, a scale beyond binary16): it stays as it is.</returns>
    /// <remarks>
    /// The ladder: full precision becomes anything smaller; I8 becomes T or V; these become fewer bits. Keys and values each
    /// lose precision twice at most, being sealed counted; what is already in the format is copied as it is.
    /// </remarks>
    /// <exception cref="ArgumentException">No such layer, head or resident page; the page is still open; the layer does not allow the formats, or the ladder does not.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the new page; nothing has changed.</exception>
    public bool Demote(int layer, int head, int page, KvFormats formats)
    {
        int row = RowOf(layer, head);
        using Call call = new(this);
        if (Table.EntryOf(row, page) is var entry && entry < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(page), page, $"expected a resident page of layer {layer}, head {head}, got {page}");
        }

        int target = Cache.Classes.TargetOf(formats);
        if (target < 0 || !Cache.Classes.MayBecome(layer, target))
        {
            throw new ArgumentException($"expected formats that {nameof(KvCacheOptions.DemotionFormats)} allow layer {layer}, got {formats}", nameof(formats));
        }

        if (!Table.IsSealed(row, entry))
        {
            throw new ArgumentException($"expected a sealed page, got page {page}, which is open", nameof(page));
        }

        if (!Table.MayDemote(row, entry, target))
        {
            KvFormats held = Cache.Classes.FormatsOf(Table.PageClass(row, entry));
            throw new ArgumentException(
                $"expected formats of fewer bits that the page's allow ({held}, encoded at most {Ladder.MostEncodings - 1} times), got {formats}", nameof(formats));
        }

        Span<bool> kept = stackalloc bool[1];
        if (Demote([new PageDemotion(row, page, target)], kept) == 0)
        {
            long bytes = Cache.Pool.BytesOf(SlotCounts.Of(target, 1));
            throw new KvOutOfMemoryException("page to demote to", $"at most {Math.Max(0, Cache.BudgetBytes - Cache.AllocatedBytes)} bytes, in a slab of its size", $"{bytes} bytes");
        }

        return !kept[0];
    }

    /// <summary>The same for many pages, as far as there is room. The sequence is the caller's: between steps, or inside of Commit.</summary>
    /// <param name="pages">Sealed pages, resident, each once, and classes that <see cref="PageTable.MayDemote"/> allows.</param>
    /// <param name="kept">One for each page: set where the class cannot hold it, so that it stays as it is.</param>
    /// <returns>How many were done, from the first on; fewer than asked where there is no room for the next.</returns>
    internal int Demote(ReadOnlySpan<PageDemotion> pages, Span<bool> kept)
    {
        Span<int> slots = stackalloc int[DemotedAtOnce];
        Span<PageMove> moves = stackalloc PageMove[DemotedAtOnce];
        kept = kept[..pages.Length];
        kept.Clear();
        int done = 0;
        while (done < pages.Length)
        {
            int count = TakeFor(pages.Slice(done, Math.Min(DemotedAtOnce, pages.Length - done)), slots);
            if (count == 0)
            {
                if (!Cache.HasBytesFor(pages[done].Target) || !Compact())
                {
                    break;
                }

                continue;
            }

            ReadOnlySpan<PageDemotion> batch = pages.Slice(done, count);
            WriteDemoted(batch, slots[..count], moves[..count], kept.Slice(done, count));
            lock (Cache.Pool.Gate)
            {
                for (int i = 0; i < count; i++)
                {
                    if (!kept[done + i])
                    {
                        // The block first: a row that is held answers for all its pages.
                        _chain?.Drop(batch[i].Page);
                    }

                    Table.PublishDemoted(batch[i], slots[i], kept[done + i]);
                }
            }

            done += count;
        }

        return done;
    }

    // As many as there is room for, in the pages' order.
    private int TakeFor(ReadOnlySpan<PageDemotion> pages, Span<int> slots)
    {
        lock (Cache.Pool.Gate)
        {
            for (int i = 0; i < pages.Length; i++)
            {
                if (!Cache.TryTake(SlotCounts.Of(pages[i].Target, 1), slots.Slice(i, 1)))
                {
                    return i;
                }
            }
        }

        return pages.Length;
    }

    private void WriteDemoted(ReadOnlySpan<PageDemotion> pages, ReadOnlySpan<int> slots, Span<PageMove> moves, Span<bool> kept)
    {
        bool written = false;
        try
        {
            for (int i = 0; i < pages.Length; i++)
            {
                moves[i] = Table.DemotionOf(pages[i], slots[i]);
            }

            lock (Cache.DeviceGate)
            {
                Cache.Tier.Transcode(moves, kept);
                Cache.Tier.Synchronize();
            }

            written = true;
        }
        finally
        {
            if (!written)
            {
                lock (Cache.Pool.Gate)
                {
                    Cache.Pool.Release(slots);
                }
            }
        }
    }
}
