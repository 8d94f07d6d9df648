using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The pages of a restore: taken, made ready, then listed in their sequences.</summary>
internal sealed class RestorePages(CacheState cache)
{
    private int[] _slots = [];

    /// <summary>A slot of full precision to write pages anew from; 0 if none has to be.</summary>
    public int Open { get; private set; }

    /// <summary>The slot of each planned page; once a table lists it, it is the sequence's, and 0 here.</summary>
    public ReadOnlySpan<int> Slots => _slots;

    /// <summary>Takes the pages of a plan, or says what they lack; the room that steps leave free stays free.</summary>
    public KvShortage? TryTake(RestorePlan plan)
    {
        int extra = plan.IsExact ? 0 : 1;
        SlotCounts taken = plan.Need + SlotCounts.Of(KernelShape.Open, extra);
        int[] all = new int[taken.Total];
        using (cache.Pool.Gate.Enter())
        {
            cache.ThrowIfDisposed();
            if (cache.Room.TakeOrRefuse("a load", taken, all, leavesSpare: true) is { } shortage)
            {
                return shortage;
            }
        }

        // The extra one is at the end of the open ones.
        SlotCounts next = taken.Starts();
        _slots = new int[plan.Pages.Count];
        for (int page = 0; page < _slots.Length; page++)
        {
            _slots[page] = all[next[plan.Pages[page].Class]++];
        }

        Open = extra == 0 ? 0 : all[next[KernelShape.Open]];
        return null;
    }

    /// <summary>Clears from the slots what others left in them.</summary>
    public void MakeReady(RestorePlan plan, IReadOnlyList<SequenceState> sequences)
    {
        using (cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < sequences.Count; i++)
            {
                foreach (int page in plan.Sequences[i].Pages)
                {
                    cache.Writer.Ready(_slots[page], plan.Pages[page].Class, sequences[i].Table.Owner);
                }
            }
        }
    }

    /// <summary>Leaves a page in full precision, in the open slot that it was packed in, and takes another open slot for those that follow.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: there is none.</exception>
    public void Keep(int page)
    {
        using (cache.Pool.Gate.Enter())
        {
            int next = cache.Room.Take("a page of a load in full precision", KernelShape.Open);
            cache.Pool.Release(_slots[page]);
            (_slots[page], Open) = (Open, next);
        }
    }

    /// <summary>Lists the pages in their sequences, which become like any others but for being held.</summary>
    public void Publish(RestorePlan plan, IReadOnlyList<SequenceState> sequences)
    {
        using (cache.Pool.Gate.Enter())
        {
            cache.ThrowIfDisposed();
            for (int page = 0; page < _slots.Length; page++)
            {
                cache.Pool.SetEncodings(_slots[page], plan.Pages[page].Encodings);
                if (plan.Pages[page].IsSealed)
                {
                    cache.Pool.Seal(_slots[page], plan.Pages[page].Class);
                }
            }

            bool[] isListed = new bool[_slots.Length];
            for (int i = 0; i < sequences.Count; i++)
            {
                List(sequences[i].Table, plan.Sequences[i], plan, isListed);
            }

            _slots = [];
            foreach (SequenceState sequence in sequences)
            {
                sequence.ComingBytes = 0;
                sequence.Chain?.Publish(sequence.TokenIds, sequence.Table);
                sequence.IsHandedOut = true;
            }
        }
    }

    /// <summary>Gives back the open slot that pages were written from.</summary>
    public void ReleaseOpen()
    {
        if (Open != 0)
        {
            Release([Open]);
            Open = 0;
        }
    }

    /// <summary>Gives back all that is listed nowhere.</summary>
    public void Release()
    {
        ReleaseOpen();
        Release(_slots);
        _slots = [];
    }

    private void Release(ReadOnlySpan<int> slots)
    {
        using (cache.Pool.Gate.Enter())
        {
            if (!cache.IsDisposed)
            {
                cache.Pool.Release(slots);
            }
        }
    }

    private void List(PageTable table, PlannedSequence planned, RestorePlan plan, bool[] isListed)
    {
        table.Reach(planned.Saved.Length, planned.FirstOpen);
        for (int row = 0; row < table.Rows; row++)
        {
            for (int entry = planned.RowStarts[row]; entry < planned.RowStarts[row + 1]; entry++)
            {
                int page = planned.Pages[entry];
                if (isListed[page])
                {
                    cache.Pool.AddReference(_slots[page]);
                }

                isListed[page] = true;
                bool isOpen = planned.PageIndexes[entry] >= planned.FirstOpen;
                table.List(row, planned.PageIndexes[entry], _slots[page], isOpen ? KernelShape.Open : plan.Pages[page].Class);
            }
        }
    }
}
