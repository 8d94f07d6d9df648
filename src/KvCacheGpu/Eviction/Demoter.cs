using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Writes sealed pages anew in smaller formats and lists them in place of what they were, as far as there is room.</summary>
internal sealed class Demoter(CacheState cache)
{
    /// <summary>Pages that are written together at most.</summary>
    public const int MostAtOnce = 64;

    private readonly Compactor _compactor = new(cache.Pool, cache.Room, cache.Writer);

    /// <summary>Demotes one page, after a check of all that it takes. The sequence is the caller's.</summary>
    /// <exception cref="ArgumentException">No such resident page; it is still open; the layer does not allow the formats, or the ladder does not.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the new page; nothing has changed.</exception>
    public PageOutcome Demote(SequenceState sequence, int row, int page, KvFormats formats)
    {
        PageTable table = sequence.Table;
        (int layer, int head) = Math.DivRem(row, cache.Geometry.KvHeads);
        int entry = table.EntryOf(row, page);
        if (entry < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(page), page, $"expected a resident page of layer {layer}, head {head}, got {page}");
        }

        int target = cache.Classes.TargetOf(formats);
        if (target < 0 || !cache.Classes.MayBecome(layer, target))
        {
            throw new ArgumentException($"expected formats that {nameof(KvCacheOptions.DemotionFormats)} allow layer {layer}, got {formats}", nameof(formats));
        }

        if (!table.IsSealed(row, entry))
        {
            throw new ArgumentException($"expected a sealed page, got page {page}, which is open", nameof(page));
        }

        if (!table.MayDemote(row, entry, target))
        {
            KvFormats held = cache.Classes.FormatsOf(table.PageClass(row, entry));
            throw new ArgumentException(
                $"expected formats of fewer bits that the page's allow ({held}, encoded at most {Ladder.MostEncodings - 1} times), got {formats}", nameof(formats));
        }

        Span<PageOutcome> outcomes = stackalloc PageOutcome[1];
        while (Demote(sequence, [new PageChange(row, page, target)], outcomes) == 0)
        {
            // Steps that wait for their outcome hold pages twice.
            if (cache.Unsettled.SettleAll())
            {
                continue;
            }

            throw cache.Counts.Refuse(Lack(SlotCounts.Of(target, 1)) with { Sequence = sequence.Id });
        }

        return outcomes[0];
    }

    /// <summary>Demotes pages, from the first on. The sequence is the caller's: between steps, or inside of Commit.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="pages">Sealed pages, resident, each once, and classes that <see cref="PageTable.MayDemote"/> allows.</param>
    /// <param name="outcomes">Receives one for each page that was done: <see cref="PageOutcome.Kept"/> if the class cannot hold it.</param>
    /// <returns>How many were done; fewer than asked if there is no room for the next.</returns>
    public int Demote(SequenceState sequence, ReadOnlySpan<PageChange> pages, Span<PageOutcome> outcomes)
    {
        Span<int> slots = stackalloc int[MostAtOnce];
        int done = 0;
        while (done < pages.Length)
        {
            int count = Take(pages.Slice(done, Math.Min(MostAtOnce, pages.Length - done)), slots);
            if (count == 0)
            {
                if (!HasBytesFor(pages[done].Target) || !_compactor.Compact(sequence.Table))
                {
                    break;
                }

                continue;
            }

            Write(sequence, pages.Slice(done, count), slots[..count], outcomes.Slice(done, count));
            done += count;
        }

        return done;
    }

    /// <summary>Demotes the pages that a plan names, <see cref="MostAtOnce"/> at most. Those that were kept are not tried again.</summary>
    /// <returns>Bytes freed.</returns>
    public long DemotePlanned(SequenceState sequence, ReadOnlySpan<PageChange> pages)
    {
        Span<PageOutcome> room = stackalloc PageOutcome[MostAtOnce];
        Span<int> bytes = stackalloc int[MostAtOnce];
        Span<PageOutcome> outcomes = room[..pages.Length];
        PageTable table = sequence.Table;
        IReadOnlyList<PageLayout> classes = cache.Tier.Shape.Classes;
        for (int i = 0; i < pages.Length; i++)
        {
            bytes[i] = classes[table.PageClass(pages[i].Row, table.EntryOf(pages[i].Row, pages[i].Page))].Bytes;
        }

        int done = Demote(sequence, pages, outcomes);
        long freed = 0;
        for (int i = 0; i < done; i++)
        {
            if (outcomes[i] == PageOutcome.Written)
            {
                freed += bytes[i] - classes[pages[i].Target].Bytes;
                continue;
            }

            using (cache.Pool.Gate.Enter())
            {
                cache.Pool.SetEncodings(table.Slot(pages[i].Row, table.EntryOf(pages[i].Row, pages[i].Page)), Encodings.Full);
            }
        }

        return freed;
    }

    // As many as there is room for, in the pages' order.
    private int Take(ReadOnlySpan<PageChange> pages, Span<int> slots)
    {
        using (cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < pages.Length; i++)
            {
                if (!cache.Room.TryTake(SlotCounts.Of(pages[i].Target, 1), slots.Slice(i, 1)))
                {
                    return i;
                }
            }
        }

        return pages.Length;
    }

    private KvShortage Lack(in SlotCounts need)
    {
        using (cache.Pool.Gate.Enter())
        {
            // Null: another thread has given slots back meanwhile.
            return cache.Room.WhyNot("a demotion", need) ?? new KvShortage("a demotion", KvResource.BudgetBytes, cache.Pool.BytesOf(need), 0);
        }
    }

    private bool HasBytesFor(int pageClass)
    {
        using (cache.Pool.Gate.Enter())
        {
            return cache.Room.HasBytesFor(pageClass);
        }
    }

    private void Bind(SequenceState sequence, ReadOnlySpan<PageChange> pages)
    {
        foreach (PageChange page in pages)
        {
            if (cache.Scaling is { } scaling && scaling.IsScaled(page.Target))
            {
                scaling.Bind(sequence);
            }
        }
    }

    private void Write(SequenceState sequence, ReadOnlySpan<PageChange> pages, ReadOnlySpan<int> slots, Span<PageOutcome> outcomes)
    {
        bool written = false;
        try
        {
            Bind(sequence, pages);
            cache.Writer.Demote(sequence.Table, pages, slots, outcomes);
            written = true;
        }
        finally
        {
            using (cache.Pool.Gate.Enter())
            {
                for (int i = 0; i < pages.Length; i++)
                {
                    if (!written || outcomes[i] == PageOutcome.Kept)
                    {
                        cache.Pool.Release(slots[i]);
                        continue;
                    }

                    cache.Counts.CountDemoted();

                    // The block first: the prefix index answers for all pages of a block that a sequence holds.
                    sequence.Chain?.Drop(pages[i].Page);
                    sequence.Table.Swap(pages[i].Row, sequence.Table.EntryOf(pages[i].Row, pages[i].Page), slots[i], pages[i].Target);
                }
            }
        }
    }
}
