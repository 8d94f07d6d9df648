using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The working memory of one step: the tier's batch, the slots taken, the entries replaced. Reused from step to step.</summary>
internal sealed unsafe class StepMemory : IDisposable
{
    private const int WordsPerReplaced = 5;
    private const int MovesAtOnce = 256;
    private const int NoSeal = -1;

    private readonly KernelTier _tier;
    private readonly Lock _deviceGate;
    private readonly NativeInts _ints;
    private readonly PageMove[] _moves = new PageMove[MovesAtOnce];
    private readonly int[] _sealOfMove = new int[MovesAtOnce];
    private readonly bool[] _kept = new bool[MovesAtOnce];
    private readonly int _mostSlots;
    private SlotCounts _next;
    private int _taken;
    private int _seals;
    private int _sealsRead;
    private int _replaced;
    private int _pendingMoves;

    public StepMemory(KernelTier tier, Lock deviceGate, int maxSequences, int maxTokens, MemoryLedger ledger)
    {
        (_tier, _deviceGate) = (tier, deviceGate);
        _mostSlots = MostSlots(tier.Shape, maxSequences, maxTokens);
        _ints = new NativeInts(Ints(tier.Shape, maxSequences, maxTokens), ledger);
        try
        {
            Batch = tier.CreateBatch(maxSequences, maxTokens);
        }
        catch
        {
            _ints.Dispose();
            throw;
        }
    }

    public KernelBatch Batch { get; }

    /// <summary>Slots that the step took: for pages that are written, and for those that Commit seals.</summary>
    public Span<int> Taken => _ints.Span[.._taken];

    /// <summary>Whether Commit seals pages.</summary>
    public bool HasSeals => _seals > 0;

    private Span<int> Seals => _ints.Span.Slice(2 * _mostSlots, _mostSlots);

    public static long BookkeepingBytes(KernelShape shape, int maxSequences, int maxTokens) =>
        Ints(shape, maxSequences, maxTokens) * sizeof(int);

    /// <summary>Takes the step's slots; the caller knows that the pool has them.</summary>
    public void Take(PagePool pool, in SlotCounts slots)
    {
        Clear();
        int taken = slots.Total;
        pool.TakeAll(slots, _ints.Span[..(2 * _mostSlots)][..taken]);
        for (int c = 1; c < KernelShape.MaxClasses; c++)
        {
            _next[c] = _next[c - 1] + slots[c - 1];
        }

        _taken = taken;
    }

    /// <summary>The next of the slots taken for a class.</summary>
    public int NextSlot(int pageClass) => _ints.Pointer[_next[pageClass]++];

    /// <summary>Adds a page to write in its sealed form.</summary>
    public void Seal(in PageMove move)
    {
        NoteSeal(move.TargetSlot, false);
        Move(move, _seals - 1);
    }

    /// <summary>Notes a page to seal that needs no writing.</summary>
    /// <param name="slot">Where it lies sealed; where it is kept, the slot that was reserved for it.</param>
    /// <param name="kept">Whether it stays as it is, in full precision.</param>
    public void NoteSeal(int slot, bool kept) => Seals[_seals++] = kept ? ~slot : slot;

    /// <summary>Where the next page that was sealed lies now, in the order in which they were added; ~slot where it was kept instead and that slot is left over.</summary>
    public int NextSeal() => Seals[_sealsRead++];

    /// <summary>Notes what an entry held before the step gave it a page of its own.</summary>
    public void NoteReplaced(int slotWord, int tagWord, int tokens)
    {
        Span<int> note = Replaced(_replaced++);
        (note[0], note[1], note[2], note[3], note[4]) = (slotWord, tagWord, _tier.Tables[slotWord], _tier.Tables[tagWord], tokens);
    }

    /// <summary>Copies what replaced pages hold into those that took their place.</summary>
    public void CopyReplaced()
    {
        for (int i = 0; i < _replaced; i++)
        {
            Span<int> note = Replaced(i);
            Move(new PageMove(note[2], TableMap.ClassOf(note[3]), _tier.Tables[note[0]], KernelShape.Open, note[4]), NoSeal);
        }

        CarryOut();
    }

    /// <summary>Puts the replaced entries back.</summary>
    public void Restore()
    {
        for (int i = 0; i < _replaced; i++)
        {
            Span<int> note = Replaced(i);
            _tier.Write(note[0], note[2]);
            _tier.Write(note[1], note[3]);
        }
    }

    /// <summary>Gives back the pages that the step replaced.</summary>
    public void ReleaseReplaced(PagePool pool)
    {
        for (int i = 0; i < _replaced; i++)
        {
            pool.Release(Replaced(i)[2]);
        }
    }

    /// <summary>Carries out what was added and not yet carried out; it has ended when the call returns.</summary>
    public void CarryOut()
    {
        int count = _pendingMoves;
        _pendingMoves = 0;
        if (count == 0)
        {
            return;
        }

        Span<bool> kept = _kept.AsSpan(0, count);
        kept.Clear();
        lock (_deviceGate)
        {
            _tier.Transcode(_moves.AsSpan(0, count), kept);
            _tier.Synchronize();
        }

        for (int i = 0; i < count; i++)
        {
            if (kept[i] && _sealOfMove[i] != NoSeal)
            {
                Seals[_sealOfMove[i]] = ~_moves[i].TargetSlot;
            }
        }
    }

    public void Clear() => (_next, _taken, _seals, _sealsRead, _replaced, _pendingMoves) = (default, 0, 0, 0, 0, 0);

    public void Dispose()
    {
        Batch.Dispose();
        _ints.Dispose();
    }

    private void Move(in PageMove move, int seal)
    {
        (_moves[_pendingMoves], _sealOfMove[_pendingMoves]) = (move, seal);
        if (++_pendingMoves == _moves.Length)
        {
            CarryOut();
        }
    }

    // Each sequence may need a page more than its tokens fill, and a copy of its last page; and seals as many pages as its tokens fill, and one
    // more, since however it came to be, all pages but the last whole one and the one behind it are sealed between steps (PageTable).
    private static int MostSlots(KernelShape shape, int maxSequences, int maxTokens) =>
        checked(shape.Geometry.Layers * shape.Geometry.KvHeads * ((maxTokens / shape.Geometry.PageTokens) + (2 * maxSequences)));

    private static long Ints(KernelShape shape, int maxSequences, int maxTokens) =>
        (3L * MostSlots(shape, maxSequences, maxTokens))
        + ((long)WordsPerReplaced * maxSequences * shape.Geometry.Layers * shape.Geometry.KvHeads);

    private Span<int> Replaced(int index) => _ints.Span.Slice((3 * _mostSlots) + (index * WordsPerReplaced), WordsPerReplaced);
}
