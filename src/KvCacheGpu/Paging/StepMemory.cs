using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The working memory of one step: the tier's batch, the slots taken, the entries replaced. Reused from step to step.</summary>
internal sealed unsafe class StepMemory : IDisposable
{
    private const int WordsPerReplaced = 5;
    private const int MovesAtOnce = 256;

    private readonly KernelTier _tier;
    private readonly Lock _deviceGate;
    private readonly NativeInts _ints;
    private readonly PageMove[] _moves = new PageMove[MovesAtOnce];
    private readonly int _mostSlots;
    private SlotCounts _taken;
    private int _openUsed;
    private int _sealedUsed;
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

    /// <summary>Slots for pages that are written.</summary>
    public Span<int> Open => _ints.Span[.._taken.Open];

    /// <summary>Slots for pages that Commit seals.</summary>
    public Span<int> Sealed => _ints.Span.Slice(_mostSlots, _taken.Sealed);

    public static long BookkeepingBytes(KernelShape shape, int maxSequences, int maxTokens) =>
        Ints(shape, maxSequences, maxTokens) * sizeof(int);

    public bool TryTake(PagePool pool, SlotCounts slots)
    {
        (_taken, _openUsed, _sealedUsed, _replaced) = (slots, 0, 0, 0);
        if (!pool.TryTake(Open, Sealed))
        {
            _taken = default;
            return false;
        }

        return true;
    }

    public int NextOpen() => Open[_openUsed++];

    public int NextSealed() => Sealed[_sealedUsed++];

    public void RewindSealed() => _sealedUsed = 0;

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
            Move(new PageMove(note[2], TableMap.ClassOf(note[3]), _tier.Tables[note[0]], KernelShape.Open, note[4]));
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

    /// <summary>Adds a page to write from a page; moves are carried out many at a time, and have ended when the call returns.</summary>
    public void Move(in PageMove move)
    {
        _moves[_pendingMoves++] = move;
        if (_pendingMoves == _moves.Length)
        {
            CarryOut();
        }
    }

    /// <summary>Carries out what <see cref="Move"/> has gathered.</summary>
    public void CarryOut()
    {
        int count = _pendingMoves;
        _pendingMoves = 0;
        if (count > 0)
        {
            lock (_deviceGate)
            {
                _tier.Transcode(_moves.AsSpan(0, count));
                _tier.Synchronize();
            }
        }
    }

    public void Clear() => (_taken, _openUsed, _sealedUsed, _replaced, _pendingMoves) = (default, 0, 0, 0, 0);

    public void Dispose()
    {
        Batch.Dispose();
        _ints.Dispose();
    }

    // Each sequence may need a page more than its tokens fill, and a copy of its last page.
    private static int MostSlots(KernelShape shape, int maxSequences, int maxTokens) =>
        checked(shape.Geometry.Layers * shape.Geometry.KvHeads * ((maxTokens / shape.Geometry.PageTokens) + (2 * maxSequences)));

    private static long Ints(KernelShape shape, int maxSequences, int maxTokens) =>
        (2L * MostSlots(shape, maxSequences, maxTokens))
        + ((long)WordsPerReplaced * maxSequences * shape.Geometry.Layers * shape.Geometry.KvHeads);

    private Span<int> Replaced(int index) => _ints.Span.Slice((2 * _mostSlots) + (index * WordsPerReplaced), WordsPerReplaced);
}
