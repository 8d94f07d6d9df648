using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>The rows' part in a step: what it needs, how they grow, how they return to what they were, what is sealed.</content>
internal sealed unsafe partial class PageTable
{
    /// <summary>Slots that a step of this many tokens needs. The gate is held.</summary>
    public SlotCounts NeedFor(int tokens)
    {
        int pages = (PagesFor(Length + tokens) - PagesFor(Length)) * Rows;
        int seals = Math.Max(0, SealedPagesAt(Length + tokens) - FirstOpenOfStep());
        SlotCounts need = SlotCounts.Of(KernelShape.Open, pages + TailsToReplace());
        for (int layer = 0; seals > 0 && layer < Rows / _heads; layer++)
        {
            need[_classes.SealedIn(layer)] += _classes.SealsInPlace(layer) ? 0 : seals * _heads;
        }

        return need;
    }

    /// <summary>Lists pages for the step's tokens; a last page that others see, or that is sealed, is replaced by one to copy into. The gate is held.</summary>
    public void Grow(int tokens, StepMemory memory)
    {
        _pendingFirstOpen = FirstOpenOfStep();
        _pendingTokens = tokens;
        int firstNew = PagesFor(Length);
        int endNew = PagesFor(Length + tokens);
        for (int row = 0; row < Rows; row++)
        {
            int count = Count(row);
            if (MustReplaceTail(row))
            {
                int entry = count - 1;
                memory.NoteReplaced(_map.SlotWord(_firstRow + row, entry), _map.TagWord(_firstRow + row, entry), TailTokens);
                int copy = Fresh(memory.NextSlot(KernelShape.Open), KernelShape.Open);
                _pool.SetEncodings(copy, EncodingsAs(KernelShape.Open, row, entry));
                Set(row, entry, copy, TableMap.Tag(KernelShape.Open, PageIndex(row, entry)));
            }

            for (int page = firstNew; page < endNew; page++)
            {
                Set(row, count++, Fresh(memory.NextSlot(KernelShape.Open), KernelShape.Open), TableMap.Tag(KernelShape.Open, page));
            }

            SetCount(row, count);
        }
    }

    /// <summary>Takes the step's pages out of the rows; replaced entries are the step's to restore.</summary>
    public void Shrink()
    {
        int pages = PagesFor(Length);
        for (int row = 0; row < Rows; row++)
        {
            // By what is listed: where growing failed, some rows have not grown.
            int count = Count(row);
            while (count > 0 && PageIndex(row, count - 1) >= pages)
            {
                count--;
            }

            SetCount(row, count);
        }

        _pendingTokens = 0;
    }

    /// <summary>
    /// Writes the sealed form of the pages that the step's tokens leave a page behind: beside the rows, or, where it has the layout of
    /// open pages, only the digest into the page.
    /// </summary>
    public void EncodeSeals(StepMemory memory)
    {
        int end = SealedPagesAt(Length + _pendingTokens);
        for (int row = 0; row < Rows; row++)
        {
            int pageClass = SealedIn(row);
            bool inPlace = _classes.SealsInPlace(row / _heads);
            for (int page = _pendingFirstOpen; page < end; page++)
            {
                int slot = Slot(row, PendingEntryOf(row, page));
                int target = inPlace ? slot : Fresh(memory.NextSlot(pageClass), pageClass);

                // A fork that shares the page and was first: sealed in place there, or kept since no other format holds it. Two at
                // once write the same bits, one after the other.
                if (_pool.IsSealed(slot))
                {
                    memory.NoteSeal(target, _pool.ClassOf(slot) == KernelShape.Open);
                }
                else
                {
                    memory.Seal(new PageMove(slot, KernelShape.Open, target, pageClass, _pageTokens, WritesSquares ? ScoreWord(row, page) : 0));
                }
            }
        }
    }

    /// <summary>Makes the step's tokens part of the sequence and swaps sealed pages in. The gate is held.</summary>
    public void Publish(StepMemory memory)
    {
        int end = SealedPagesAt(Length + _pendingTokens);
        for (int row = 0; row < Rows; row++)
        {
            for (int page = _pendingFirstOpen; page < end; page++)
            {
                PublishSeal(row, PendingEntryOf(row, page), memory.NextSeal());
            }
        }

        Length += _pendingTokens;
        _firstOpen = Math.Max(_pendingFirstOpen, end);
        _pendingTokens = 0;
    }

    private void PublishSeal(int row, int entry, int outcome)
    {
        int slot = Slot(row, entry);
        if (outcome >= 0)
        {
            Swap(row, entry, outcome, SealedIn(row));
            return;
        }

        // Kept: sealed as it is, in full precision.
        _pool.Seal(slot, KernelShape.Open);
        if (~outcome != slot)
        {
            _pool.Release(~outcome);
        }
    }

    /// <summary>Readies a slot just taken for a page of the sequence's owner.</summary>
    public int Fresh(int slot, int pageClass)
    {
        _scrub.Prepare(slot, pageClass, _owner);
        return slot;
    }

    // One page of lag: page i is sealed once the sequence holds the whole of page i + 1.
    private int SealedPagesAt(int length) => FirstOpenOf(length, _pageTokens);

    // A sealed last page that is only partly kept is reopened by the step that writes on.
    private int FirstOpenOfStep() => TailTokens == 0 ? _firstOpen : Math.Min(_firstOpen, Length / _pageTokens);

    private int TailsToReplace()
    {
        int tails = 0;
        for (int row = 0; row < Rows; row++)
        {
            tails += MustReplaceTail(row) ? 1 : 0;
        }

        return tails;
    }

    private bool MustReplaceTail(int row)
    {
        if (TailTokens == 0)
        {
            return false;
        }

        int entry = Count(row) - 1;
        return PageClass(row, entry) != KernelShape.Open || !_pool.IsWritable(Slot(row, entry));
    }

    // Open pages are contiguous at the end of a row.
    private int PendingEntryOf(int row, int page) => Count(row) - PagesFor(Length + _pendingTokens) + page;
}
