using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Slots of the device that pages in host memory are copied to while an attention reads them. A page stays until its place is needed, the least recently used first. Callers are inside of <see cref="Gate"/>.
/// </summary>
/// <remarks>
/// Pages are copied beside the device's work: behind the launches that read their slots last, and before whatever is enqueued next. So a copy waits only for the attentions whose pages lose their places to it.
/// </remarks>
internal sealed class PageStage(KernelTier tier, Gate deviceGate, HostRoom room, int[] slots)
{
    // Attentions whose ends are known apart: what was used longer ago counts as used by the oldest of them.
    private const int KnownEnds = 16;

    private readonly HostPage?[] _pages = new HostPage?[slots.Length];

    // By place: the attention that used it last, and the turn of that use among all uses.
    private readonly long[] _used = new long[slots.Length];
    private readonly long[] _turns = new long[slots.Length];
    private readonly bool[] _isAhead = new bool[slots.Length];
    private readonly PriorityQueue<int, long> _oldest = new(Enumerable.Range(0, slots.Length).Select(place => (place, 0L)));
    private readonly long[] _ends = new long[KnownEnds];
    private readonly List<HostPage> _missing = [];
    private readonly List<PageTransfer> _transfers = [];
    private long _now;
    private long _turn;
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
    public void Begin()
    {
        _ends[_now % KnownEnds] = tier.Transfers.Mark();
        _now++;
    }

    /// <summary>Brings pages of an attention to the device, those that are missing in one copy: over all calls since <see cref="Begin"/> as many as there are places.</summary>
    /// <param name="pages">The pages.</param>
    /// <param name="found">Receives their slots.</param>
    /// <returns>How many were missing.</returns>
    public int Bring(ReadOnlySpan<HostPage> pages, Span<int> found)
    {
        // First those that are there, so that none of them makes way for another.
        foreach (HostPage page in pages)
        {
            if (IsThere(page))
            {
                Use(page.Staged);
            }
            else
            {
                _missing.Add(page);
            }
        }

        int missing = _missing.Count;
        Load(isAhead: false);
        for (int i = 0; i < pages.Length; i++)
        {
            Use(pages[i].Staged);
            found[i] = slots[pages[i].Staged];
        }

        return missing;
    }

    /// <summary>Brings pages that an attention may ask for. Those that no sequence has any longer are left out.</summary>
    public void BringAhead(ReadOnlySpan<HostPage> pages)
    {
        using Lock.Scope held = room.Hold();
        foreach (HostPage page in pages)
        {
            if (IsThere(page))
            {
                Touch(page.Staged);
            }
            else if (page.Place.IsTaken)
            {
                _missing.Add(page);
            }
        }

        Load(isAhead: true);
    }

    private bool IsThere(HostPage page) => page.Staged >= 0 && _pages[page.Staged] == page;

    private void Use(int place)
    {
        _aheadUsed += _isAhead[place] ? 1 : 0;
        _isAhead[place] = false;
        Touch(place);
    }

    private void Touch(int place) => (_used[place], _turns[place]) = (_now, ++_turn);

    // Copies the missing pages, all at once.
    private void Load(bool isAhead)
    {
        try
        {
            long last = 0;
            long bytes = 0;
            _transfers.Clear();

            // Pages of one block are copied by one launch.
            _missing.Sort(static (one, other) => one.Place.Chunk.Number.CompareTo(other.Place.Chunk.Number));
            foreach (HostPage page in _missing)
            {
                int place = Oldest();
                last = Math.Max(last, _used[place]);
                _aheadWasted += _isAhead[place] ? 1 : 0;
                (_pages[place], _isAhead[place], page.Staged) = (null, false, place);
                Touch(place);
                _oldest.Enqueue(place, _turn);
                _transfers.Add(page.Place.To(slots[place]));
                bytes += page.Words.Length * sizeof(int);
            }

            if (_missing.Count == 0)
            {
                return;
            }

            Copying?.Invoke(checked((int)bytes));
            using (deviceGate.Enter())
            {
                tier.Transfers.Load(CollectionsMarshal.AsSpan(_transfers), EndOf(last));
            }

            // Only now: a copy that fails leaves no page there.
            foreach (HostPage page in _missing)
            {
                (_pages[page.Staged], _isAhead[page.Staged]) = (page, isAhead);
            }

            _ahead += isAhead ? _missing.Count : 0;
        }
        finally
        {
            _missing.Clear();
        }
    }

    // The end of an attention by its number. The one that was begun last may not have been enqueued yet, or just been.
    private long EndOf(long attention) =>
        attention == _now ? tier.Transfers.Mark() : _ends[Math.Max(attention, Math.Max(0, _now - KnownEnds + 1)) % KnownEnds];

    // A place that was used again since it was queued goes back by its last use. No two have one turn, so that pages of one copy go to different places.
    private int Oldest()
    {
        while (true)
        {
            _oldest.TryDequeue(out int place, out long queued);
            if (_turns[place] == queued)
            {
                return place;
            }

            _oldest.Enqueue(place, _turns[place]);
        }
    }
}
