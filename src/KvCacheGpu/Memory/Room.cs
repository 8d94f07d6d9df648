namespace KvCacheGpu;

/// <summary>
/// Answers whether something fits: a step, a sequence, the pages of a demotion, of a merge, of a snapshot. Everything that takes slots or working
/// memory comes here, so that there is one answer. Callers are inside of the pool's gate where not said otherwise.
/// </summary>
/// <remarks>
/// <code>
/// free bytes = budget - bytes in use + pages that only the prefix index names + working memory that no step borrows, beyond the first
/// a want fits if   its bytes and slots are at most the free bytes, and   its slots find slabs of their size once cached pages are given up
/// </code>
/// Asking gives nothing up: cached pages and idle memory go only when something is taken.
/// </remarks>
internal sealed class Room : IDisposable
{
    private readonly CacheCounts _counts;
    private readonly PagePool _pool;
    private readonly MemoryLedger _ledger;
    private readonly Func<StepMemory> _newMemory;
    private readonly Stack<StepMemory> _idle = new();
    private readonly long _leastStepBytes;
    private readonly long _stepBytes;
    private readonly bool _isBudgeted;
    private readonly SlotCounts _spare;
    private readonly int _spareLeaves;
    private long _budget;
    private int _reads;
    private int _stepsWaiting;

    /// <param name="pool">The slots.</param>
    /// <param name="plan">The budget, the slots that steps leave free.</param>
    /// <param name="ledger">The bytes in use.</param>
    /// <param name="newMemory">Makes a step's working memory.</param>
    /// <param name="slabs">Slabs of the arena.</param>
    /// <param name="counts">Counts refusals.</param>
    public Room(PagePool pool, BudgetPlan plan, MemoryLedger ledger, Func<StepMemory> newMemory, int slabs, CacheCounts counts)
    {
        _counts = counts;
        (_pool, _ledger, _newMemory, _spare, _spareLeaves) = (pool, ledger, newMemory, plan.Spare, plan.SpareLeaves);
        _leastStepBytes = plan.StepBytes;
        long before = ledger.Live;
        _idle.Push(NewMemory());
        _stepBytes = ledger.Live - before;
        _isBudgeted = plan.Configured is not null;
        _budget = plan.Configured ?? plan.Unbudgeted(slabs, ledger.Live);
    }

    /// <summary>Gives up the pages that were used least recently of those that only the prefix index names; false if there are none. Null without prefix reuse.</summary>
    public Func<bool>? GiveUpCached { get; init; }

    /// <summary>Slots, and those that steps and restores leave free beside them, so that there is always room to make room and for tables to grow.</summary>
    public SlotCounts WithSpare(in SlotCounts slots) => WithTables(slots + _spare);

    /// <summary>Bytes that may be in use. Without a configured budget, working memory of steps at once beyond the first is added to it.</summary>
    public long BudgetBytes => Interlocked.Read(ref _budget);

    /// <summary>Bytes that a step or its pages may still take.</summary>
    public long FreeBytes => _budget - _ledger.Live + _pool.CachedBytes + ReclaimableBytes;

    /// <summary>Bytes of working memory that one more step at once adds to those in use.</summary>
    public long StepMemoryBytes => MustWaitForReads ? 0 : NewMemoryBytes;

    // Working memory beyond the first is there because steps ran at once: pages that lack its bytes come first.
    private long ReclaimableBytes => _isBudgeted ? Math.Max(0, _idle.Count - 1) * _stepBytes : 0;

    // Bytes that lending working memory adds to those in use.
    private long NewMemoryBytes => _idle.Count > 0 || !_isBudgeted ? 0 : _stepBytes;

    // True if a step or read has to wait for a read to end, which it does by itself: of a configured budget, reads must not take more working
    // memory than there is, which pages would lack from then on.
    private bool MustWaitForReads => _reads > 0 && NewMemoryBytes > 0;

    /// <summary>Says what is missing for slots and bytes of bookkeeping, or null if they fit.</summary>
    /// <param name="what">What it is, for the message.</param>
    /// <param name="slots">Slots by class, those of <see cref="WithSpare"/> counted where they are to stay free.</param>
    /// <param name="bytes">Bytes beside them.</param>
    public KvShortage? WhyNot(string what, in SlotCounts slots, long bytes = 0)
    {
        // Pages that go give bytes of both: the one that lacks more says how many have to.
        long wanted = _pool.BytesOf(slots);
        long lacking = _pool.LackingWithoutCached(slots);
        return lacking > Math.Max(0, wanted + bytes - FreeBytes)
            ? new KvShortage(what, KvResource.SlabBytes, wanted, wanted - lacking)
            : WhyNotBytes(what, wanted + bytes);
    }

    /// <summary>Says what the budget lacks for so many bytes, or null if it has them.</summary>
    public KvShortage? WhyNotBytes(string what, long bytes) => bytes <= FreeBytes ? null : new KvShortage(what, KvResource.BudgetBytes, bytes, FreeBytes);

    /// <summary>Says what is missing for a step, or null if it fits.</summary>
    public KvShortage? WhyNotStep(in Want want)
    {
        long memory = StepMemoryBytes;
        return memory > 0 && memory > FreeBytes ? new KvShortage("a step", KvResource.StepMemoryBytes, memory, FreeBytes) : WhyNot("a step", WithSpare(want.Slots), want.Bytes + memory);
    }

    /// <summary>Takes slots, each with one reference, or says what is missing and takes nothing.</summary>
    /// <param name="what">What they are for, for the message.</param>
    /// <param name="counts">How many of each class.</param>
    /// <param name="slots">Receives them, class after class.</param>
    /// <param name="leavesSpare">True if what steps leave free (<see cref="WithSpare"/>) has to stay free. The default value is false.</param>
    /// <param name="bytes">Bytes of bookkeeping that the caller takes before it leaves the gate. The default value is 0.</param>
    /// <returns>Null if they were taken.</returns>
    public KvShortage? TakeOrRefuse(string what, in SlotCounts counts, Span<int> slots, bool leavesSpare = false, long bytes = 0)
    {
        SlotCounts room = leavesSpare ? WithSpare(counts) : WithTables(counts);
        if (WhyNot(what, room, bytes) is { } shortage)
        {
            return shortage;
        }

        MakeRoom(room, bytes);
        _pool.Take(counts, slots);
        return null;
    }

    /// <summary>Takes slots, each with one reference, of those that steps leave free too.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: they do not fit; nothing was taken.</exception>
    public void Take(string what, in SlotCounts counts, Span<int> slots)
    {
        if (TakeOrRefuse(what, counts, slots) is { } shortage)
        {
            throw _counts.Refuse(shortage);
        }
    }

    /// <summary>The same for one slot of a class.</summary>
    public int Take(string what, int pageClass)
    {
        Span<int> slot = stackalloc int[1];
        Take(what, SlotCounts.Of(pageClass, 1), slot);
        return slot[0];
    }

    /// <summary>Takes slots if they fit, of those that steps leave free too.</summary>
    /// <returns>False if they do not fit; nothing was taken.</returns>
    public bool TryTake(in SlotCounts counts, Span<int> slots) => TakeOrRefuse("a page", counts, slots) is null;

    /// <summary>Takes a slot of a class outside of one slab, to move a page out of it. Gives nothing up: the page's old slot is free soon.</summary>
    /// <returns>0 if the budget has no bytes for one more page; the caller knows that there is a slot (<see cref="PagePool.RoomBeside"/>).</returns>
    public int TakeBeside(int slab, int pageClass) => HasBytesFor(pageClass) ? _pool.TakeBeside(slab, pageClass) : 0;

    /// <summary>True if the budget has bytes for one more page of a class while nothing is given up.</summary>
    public bool HasBytesFor(int pageClass) => _pool.BytesOf(SlotCounts.Of(pageClass, 1)) <= _budget - _ledger.Live;

    /// <summary>
    /// Gives up working memory that steps at once had, then cached pages, least recently used first, until slots and bytes are there;
    /// <see cref="WhyNot"/> has said that they will be.
    /// </summary>
    public void MakeRoom(in SlotCounts slots, long bytes)
    {
        long wanted = _pool.BytesOf(slots) + bytes;
        while (ReclaimableBytes > 0 && _ledger.Live + wanted > _budget)
        {
            _idle.Pop().Dispose();
        }

        while ((!_pool.Holds(slots) || _ledger.Live + wanted > _budget) && GiveUpCached?.Invoke() == true)
        {
        }
    }

    /// <summary>
    /// Takes a step's slots, and lends it the working memory that lists them: <see cref="WhyNotStep"/> has said that they fit.
    /// </summary>
    /// <returns>Null if a read holds the last of the working memory for a moment: the caller leaves the gate, calls <see cref="WaitForReads"/>, and asks again.</returns>
    public StepMemory? TakeForStep(in Want want)
    {
        SlotCounts slots = want.Slots;
        if (MustWaitForReads)
        {
            return null;
        }

        MakeRoom(WithSpare(slots), want.Bytes + NewMemoryBytes);
        StepMemory memory = Rent();
        try
        {
            _pool.Take(slots, memory.Begin(slots));
            return memory;
        }
        catch
        {
            memory.Clear();
            Return(memory);
            throw;
        }
    }

    /// <summary>Takes a step's working memory back.</summary>
    public void Return(StepMemory memory) => _idle.Push(memory);

    /// <summary>Waits for a read to give its working memory back, before reads that come later. The caller is outside of the gate.</summary>
    public void WaitForReads()
    {
        Interlocked.Increment(ref _stepsWaiting);
        var wait = default(SpinWait);
        while (IsWaiting())
        {
            wait.SpinOnce();
        }

        Interlocked.Decrement(ref _stepsWaiting);

        bool IsWaiting()
        {
            using (_pool.Gate.Enter())
            {
                return MustWaitForReads;
            }
        }
    }

    /// <summary>Lends a read its working memory, or nothing while other reads hold all that there is room for.</summary>
    /// <param name="sequence">Id of the sequence that it reads, for the message; null of several.</param>
    /// <returns>Null: the caller leaves the gate, waits a moment, and asks again.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all of it.</exception>
    public StepMemory? BeginRead(long? sequence)
    {
        if (MustWaitForReads || Volatile.Read(ref _stepsWaiting) > 0)
        {
            return null;
        }

        if (NewMemoryBytes > 0 && NewMemoryBytes > FreeBytes)
        {
            throw _counts.Refuse(new KvShortage("attention without an append", KvResource.StepMemoryBytes, NewMemoryBytes, FreeBytes) { Sequence = sequence });
        }

        MakeRoom(default, NewMemoryBytes);
        StepMemory memory = Rent();
        _reads++;
        return memory;
    }

    /// <summary>Takes a read's working memory back.</summary>
    public void EndRead(StepMemory memory)
    {
        _reads--;
        Return(memory);
    }

    /// <summary>Gives back the working memory that no step borrows.</summary>
    public void Dispose()
    {
        while (_idle.TryPop(out StepMemory? memory))
        {
            memory.Dispose();
        }
    }

    // Tables have room of their own, whatever else is taken.
    private SlotCounts WithTables(SlotCounts slots)
    {
        slots[SlotCounts.Leaf] = Math.Max(slots[SlotCounts.Leaf], _spareLeaves - _pool.Leaves);
        return slots;
    }

    private StepMemory Rent()
    {
        if (_idle.TryPop(out StepMemory? memory))
        {
            return memory;
        }

        memory = NewMemory();
        if (!_isBudgeted)
        {
            Interlocked.Add(ref _budget, _stepBytes);
        }

        return memory;
    }

    private StepMemory NewMemory()
    {
        try
        {
            return _newMemory();
        }
        catch (OutOfMemoryException e)
        {
            throw _counts.Refuse(new KvShortage("working memory of a step", KvResource.DeviceBytes, Math.Max(_stepBytes, _leastStepBytes), 0), e);
        }
    }
}
