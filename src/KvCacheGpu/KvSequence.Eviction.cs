using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What must stay of a sequence, and how a plan is carried out on it.</content>
public sealed partial class KvSequence
{
    private readonly PinnedSpans _pins = new();
    private readonly List<int> _segments = [];

    /// <summary>What is known of the pages' worth; null without a policy.</summary>
    internal SequenceScores? Scores { get; }

    /// <summary>When the sequence was last stepped or made, on the cache's clock: no two are alike.</summary>
    internal long LastStep { get; set; }

    internal ReadOnlySpan<int> SegmentStarts => CollectionsMarshal.AsSpan(_segments);

    /// <summary>Keeps tokens from being dropped or demoted by the policy; whole pages stay with them. What was dropped before does not come back.</summary>
    /// <param name="start">First position.</param>
    /// <param name="length">Tokens, 0 or more.</param>
    /// <remarks>Forks inherit pins. Too many of them leave the budget nothing to give: steps are then refused.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">Positions that the sequence does not have.</exception>
    public void Pin(int start, int length)
    {
        using Call call = new(this);
        ThrowIfNotHeld(start, length);
        _pins.Add(start, start + length);
    }

    /// <summary>Gives tokens up to the policy again.</summary>
    /// <param name="start">First position; pinned or not.</param>
    /// <param name="length">Tokens, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">Positions that the sequence does not have.</exception>
    public void Unpin(int start, int length)
    {
        using Call call = new(this);
        ThrowIfNotHeld(start, length);
        _pins.Remove(start, start + length);
    }

    /// <summary>
    /// Says that a new segment begins with the next token: a prompt after the system prompt, a turn. Each keeps its share of the pages
    /// (<see cref="KvPolicy.SegmentFloor"/>) while others can give. Forks inherit the marks.
    /// </summary>
    public void MarkSegment()
    {
        using Call call = new(this);
        if (Table.Length > 0 && (_segments.Count == 0 || _segments[^1] < Table.Length))
        {
            _segments.Add(Table.Length);
        }
    }

    /// <summary>Enters where no one else is; a call or step that comes meanwhile waits for <see cref="LeaveEviction"/>.</summary>
    internal bool TryEnterEviction() => _gate.TryEnterEviction();

    internal void LeaveEviction() => _gate.Leave();

    internal bool IsPinned(long start, long end) => _pins.Touches(start, end);

    internal bool MayDemote(int row, int page, int target) =>
        Table.EntryOf(row, page) is >= 0 and int entry && Table.MayDemote(row, entry, target);

    /// <summary>Demotes what a plan says, as far as there is room.</summary>
    /// <returns>Bytes freed.</returns>
    internal long DemotePlanned(ReadOnlySpan<PageDemotion> pages)
    {
        Span<bool> kept = stackalloc bool[pages.Length];
        Span<int> bytes = stackalloc int[pages.Length];
        IReadOnlyList<PageLayout> classes = Cache.Tier.Shape.Classes;
        for (int i = 0; i < pages.Length; i++)
        {
            bytes[i] = classes[Table.PageClass(pages[i].Row, Table.EntryOf(pages[i].Row, pages[i].Page))].Bytes;
        }

        int done = Demote(pages, kept);
        long freed = 0;
        for (int i = 0; i < done; i++)
        {
            freed += kept[i] ? 0 : bytes[i] - classes[pages[i].Target].Bytes;
            if (kept[i])
            {
                // No plan shall try again.
                lock (Cache.Pool.Gate)
                {
                    Table.RefuseDemotion(pages[i].Row, Table.EntryOf(pages[i].Row, pages[i].Page));
                }
            }
        }

        return freed;
    }

    /// <summary>Lists a merged page in place of an entry's; what can be reused of it is given up.</summary>
    internal void PublishMerged(int row, int entry, int slot, Encodings encodings)
    {
        lock (Cache.Pool.Gate)
        {
            _chain?.Drop(Table.PageIndex(row, entry));
            Table.PublishMerged(row, entry, slot, encodings);
        }
    }

    /// <summary>Drops a row's flagged first entries.</summary>
    internal void Drop(int row, ReadOnlySpan<bool> drops)
    {
        if (!drops.Contains(true))
        {
            return;
        }

        lock (Cache.Pool.Gate)
        {
            // Blocks first: a row that is held answers for all its pages.
            for (int entry = drops.Length - 1; entry >= 0 && _chain is not null; entry--)
            {
                if (drops[entry])
                {
                    _chain.Drop(Table.PageIndex(row, entry));
                }
            }

            Table.Drop(row, drops);
        }
    }

    // Of a fork: what its pages are known by, and what must stay of them.
    private void ShareStanding(KvSequence other)
    {
        _positionRuns = other._positionRuns;
        _pins.CopyFrom(other._pins);
        _segments.AddRange(other._segments);
        if (Scores is not null && Cache.Eviction is { } plan)
        {
            lock (plan.Memory.Gate)
            {
                lock (Cache.DeviceGate)
                {
                    Scores.ShareWith(other.Scores!, Cache.Geometry.PagesFor(Table.Length), plan.Memory);
                }
            }
        }
    }

    private void CutStanding(int length)
    {
        _pins.Remove(length, int.MaxValue);
        _segments.RemoveAll(start => start >= length);
    }

    private void ThrowIfNotHeld(int start, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)start + length, Table.Length, nameof(length));
    }
}
