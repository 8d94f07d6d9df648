using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Slots of the device that pages in host memory are copied to while an attention reads them. A page stays until its place is needed, the least recently used first. Callers are inside of <see cref="Gate"/>.
/// </summary>
/// <remarks>The device does one thing after the other: a place may be written again once the launch that reads it was enqueued.</remarks>
internal sealed class PageStage(KernelTier tier, Gate deviceGate, int[] slots)
{
    private readonly HostPage?[] _pages = new HostPage?[slots.Length];
    private readonly long[] _used = new long[slots.Length];
    private readonly bool[] _isAhead = new bool[slots.Length];
    private readonly PriorityQueue<int, long> _oldest = new(Enumerable.Range(0, slots.Length).Select(place => (place, 0L)));
    private long _now;
    private long _ahead;
    private long _aheadUsed;
    private long _aheadWasted;

    /// <summary>Held from the first fetch of an attention until it was enqueued.</summary>
    public Gate Gate { get; } = new(GateOrder.Stage);

    /// <summary>Called with the bytes of each copy where it is set, by tests and benchmarks: a slow link between host and device.</summary>
    internal Action<int>? Copying { get; set; }

    /// <summary>Pages that it holds at most.</summary>
    public int Places => slots.Length;

    /// <summary>Pages that were brought ahead, those of them that an attention found, and those that lost their places before. Any thread.</summary>
    public (long All, long Used, long Wasted) Ahead => (Interlocked.Read(ref _ahead), Interlocked.Read(ref _aheadUsed), Interlocked.Read(ref _aheadWasted));

    /// <summary>Begins an attention: pages that are brought from here on stay until the next begins.</summary>
    public void Begin() => _now++;

    /// <summary>Brings a page to the device: of one attention as many as there are places.</summary>
    /// <param name="page">The page.</param>
    /// <param name="slot">Receives its slot.</param>
    /// <returns>False if it was there.</returns>
    public bool Bring(HostPage page, out int slot)
    {
        bool isThere = IsThere(page);
        if (!isThere)
        {
            Load(page);
        }

        int place = page.Place;
        _aheadUsed += _isAhead[place] ? 1 : 0;
        (_isAhead[place], _used[place]) = (false, _now);
        slot = slots[place];
        return !isThere;
    }

    /// <summary>Brings a page that an attention may ask for.</summary>
    public void BringAhead(HostPage page)
    {
        if (!IsThere(page))
        {
            Load(page);
            _isAhead[page.Place] = true;
            _ahead++;
        }

        _used[page.Place] = _now;
    }

    private bool IsThere(HostPage page) => page.Place >= 0 && _pages[page.Place] == page;

    private void Load(HostPage page)
    {
        int place = Oldest();
        _aheadWasted += _isAhead[place] ? 1 : 0;
        (_pages[place], _isAhead[place], _used[place]) = (null, false, _now);
        _oldest.Enqueue(place, _now);
        Copying?.Invoke(page.Words.Length * sizeof(int));
        using (deviceGate.Enter())
        {
            tier.Load((long)slots[place] * PageLayout.UnitWords, page.Words.Span);
        }

        // Only now: a copy that fails leaves no page there.
        (_pages[place], page.Place) = (page, place);
    }

    // A place that was used again since it was queued goes back by its last use.
    private int Oldest()
    {
        while (true)
        {
            _oldest.TryDequeue(out int place, out long queued);
            if (_used[place] == queued)
            {
                return place;
            }

            _oldest.Enqueue(place, _used[place]);
        }
    }
}
