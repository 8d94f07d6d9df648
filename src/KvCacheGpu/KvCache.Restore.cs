using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Pages that go out to snapshots and come in from them.</content>
public sealed partial class KvCache
{
    /// <summary>Copies a page that the caller holds.</summary>
    internal void ReadPage(int slot, Span<int> words)
    {
        lock (DeviceGate)
        {
            // The cache may be disposed while a snapshot streams.
            ObjectDisposedException.ThrowIf(_disposed, this);
            Tier.Read((long)slot * PageLayout.UnitWords, words);
        }
    }

    /// <summary>Writes a page that was taken and is listed nowhere yet.</summary>
    internal void LoadPage(int slot, ReadOnlySpan<int> words)
    {
        lock (DeviceGate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            Tier.Load((long)slot * PageLayout.UnitWords, words);
        }
    }

    /// <summary>Gives back references to pages; what is no slot is passed over.</summary>
    internal void ReleasePages(ReadOnlySpan<int> slots)
    {
        lock (Pool.Gate)
        {
            foreach (int slot in slots)
            {
                if (slot > 0 && !_disposed)
                {
                    Pool.Release(slot);
                }
            }
        }
    }

    /// <summary>Takes a page of full precision.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: there is none.</exception>
    internal int TakeOpenPage()
    {
        Span<int> slot = stackalloc int[1];
        lock (Pool.Gate)
        {
            if (TryTake(SlotCounts.Of(KernelShape.Open, 1), slot))
            {
                return slot[0];
            }

            long bytes = Pool.BytesOf(SlotCounts.Of(KernelShape.Open, 1));
            throw new Refusal("page of the snapshot in full precision", BudgetBytes - _ledger.Live, bytes, "bytes").ToException();
        }
    }

    /// <summary>Takes the pages of a restore, or says what they lack; steps keep the room that they leave free.</summary>
    /// <param name="plan">The pages.</param>
    /// <param name="slots">Their slots.</param>
    /// <param name="open">A slot of full precision to write pages anew from; 0 where none is.</param>
    internal Refusal? TryTakePages(RestorePlan plan, out int[] slots, out int open)
    {
        SlotCounts need = plan.Need;
        int extra = plan.IsExact ? 0 : 1;
        SlotCounts taken = need + SlotCounts.Of(KernelShape.Open, extra);
        int[] all = new int[taken.Total];
        (slots, open) = ([], 0);
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            SlotCounts room = taken + _plan.Spare;
            long bytes = Pool.BytesOf(room);
            long slabs = bytes - Pool.LackingWithoutCached(room);
            long free = Math.Min(BudgetBytes - _ledger.Live + Pool.CachedBytes, slabs);
            if (bytes > free)
            {
                return new Refusal("pages of the snapshot", free, bytes, "bytes");
            }

            MakeRoom(room, 0);
            Pool.TakeAll(taken, all);
        }

        // Class after class, the extra one at the end of the open ones.
        int[] next = new int[KernelShape.MaxClasses];
        for (int c = 1; c < next.Length; c++)
        {
            next[c] = next[c - 1] + taken[c - 1];
        }

        slots = new int[plan.Pages.Count];
        for (int page = 0; page < slots.Length; page++)
        {
            slots[page] = all[next[plan.Pages[page].Class]++];
        }

        open = extra == 0 ? 0 : all[next[KernelShape.Open]];
        return null;
    }

    /// <summary>Makes pages just taken their sequences' owners': what others left in them goes.</summary>
    internal void ReadyPages(RestorePlan plan, int[] slots, IReadOnlyList<KvSequence> sequences)
    {
        lock (Pool.Gate)
        {
            for (int i = 0; i < sequences.Count; i++)
            {
                int owner = OwnerOf(sequences[i].Options.Tenant);
                foreach (int page in plan.Sequences[i].Pages)
                {
                    _scrub.Prepare(slots[page], plan.Pages[page].Class, owner);
                }
            }
        }
    }

    /// <summary>How far this cache's steps are ahead of those that a snapshot counts from.</summary>
    internal long StepsLater(long saved) => Math.Max(0, NextStep - saved);

    /// <summary>Lists the pages of a restore in its sequences, which become like any others but for being held.</summary>
    /// <param name="plan">The pages.</param>
    /// <param name="slots">Their slots; once a table lists them they are the sequences', and 0 here.</param>
    /// <param name="sequences">The sequences.</param>
    internal void Publish(RestorePlan plan, int[] slots, IReadOnlyList<KvSequence> sequences)
    {
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            for (int page = 0; page < slots.Length; page++)
            {
                Pool.SetEncodings(slots[page], plan.Pages[page].Encodings);
                if (plan.Pages[page].IsSealed)
                {
                    Pool.Seal(slots[page], plan.Pages[page].Class);
                }
            }

            bool[] isListed = new bool[slots.Length];
            for (int i = 0; i < sequences.Count; i++)
            {
                List(sequences[i].Table, plan.Sequences[i], plan, slots, isListed);
            }

            Array.Clear(slots);
            foreach (KvSequence sequence in sequences)
            {
                sequence.PublishBlocks();
                sequence.Publish();
            }
        }

        foreach (int i in Enumerable.Range(0, sequences.Count).OrderBy(i => SequenceStanding.Number(plan.Sequences[i].Saved, SequenceStanding.LastStep)))
        {
            sequences[i].LastStep = Tick();
            CountStepsTo(plan.Sequences[i].Saved.Steps);
        }
    }

    private void List(PageTable table, PlannedSequence planned, RestorePlan plan, int[] slots, bool[] isListed)
    {
        table.Begin(planned.Saved.Length, planned.FirstOpen);
        for (int row = 0; row < table.Rows; row++)
        {
            for (int entry = planned.RowStarts[row]; entry < planned.RowStarts[row + 1]; entry++)
            {
                int page = planned.Pages[entry];
                if (isListed[page])
                {
                    Pool.AddReference(slots[page]);
                }

                isListed[page] = true;
                bool isOpen = planned.PageIndexes[entry] >= planned.FirstOpen;
                table.List(row, planned.PageIndexes[entry], slots[page], isOpen ? KernelShape.Open : plan.Pages[page].Class);
            }
        }
    }

    // Scores name steps: what follows must come after them.
    private void CountStepsTo(long steps)
    {
        long now;
        while ((now = NextStep) < steps && Interlocked.CompareExchange(ref _steps, steps, now) != now)
        {
        }
    }
}
