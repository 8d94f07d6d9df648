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
    private readonly PriorityQueue<int, long> _oldest = new(Enumerable.Range(0, slots.Length).Select(place => (place, 0L)));
    private long _now;

    /// <summary>Held from the first fetch of an attention until it was enqueued.</summary>
    public Gate Gate { get; } = new(GateOrder.Stage);

    /// <summary>Pages that it holds at most.</summary>
    public int Places => slots.Length;

    /// <summary>Begins an attention: pages that are brought from here on stay until the next begins.</summary>
    public void Begin() => _now++;

    /// <summary>Brings a page to the device: of one attention as many as there are places.</summary>
    /// <param name="page">The page.</param>
    /// <param name="slot">Receives its slot.</param>
    /// <returns>False if it was there.</returns>
    public bool Bring(HostPage page, out int slot)
    {
        int place = page.Place;
        bool isThere = place >= 0 && _pages[place] == page;
        if (!isThere)
        {
            place = Oldest();
            (_pages[place], page.Place) = (page, place);
            using (deviceGate.Enter())
            {
                tier.Load((long)slots[place] * PageLayout.UnitWords, page.Words.Span);
            }

            _oldest.Enqueue(place, _now);
        }

        _used[place] = _now;
        slot = slots[place];
        return !isThere;
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
