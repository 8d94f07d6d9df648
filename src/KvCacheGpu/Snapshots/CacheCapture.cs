using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Sequences as they were at one moment each. Sealed pages never change: they are held by reference until they were read. What is still
/// written is copied at once.
/// </summary>
internal sealed class CacheCapture(CacheState cache) : IDisposable
{
    private static readonly TimeSpan CancelPoll = TimeSpan.FromMilliseconds(20);

    private readonly List<SnapshotSequence> _sequences = [];
    private readonly List<int> _unnamed = [];
    private readonly List<byte> _classes = [];
    private readonly List<byte> _states = [];
    private readonly List<int> _tokens = [];

    // By ordinal: the slot that is held, or ~index of a copy. 0 once it was given back, and of a page in host memory.
    private readonly List<int> _sources = [];
    private readonly Dictionary<int, HostPage> _awayAt = [];
    private readonly List<ReadOnlyMemory<int>> _copies = [];
    private readonly Dictionary<HostPage, int> _away = [];
    private readonly Dictionary<int, int> _held = [];
    private readonly Dictionary<int, List<int>> _copied = [];

    /// <summary>The captured sequences and their pages.</summary>
    public SnapshotContent Content => new()
    {
        Geometry = cache.Geometry,
        Classes = cache.Tier.Shape.Classes,
        LayerClasses = cache.Tier.Shape.LayerClasses,
        RotationSeed = cache.Options.RotationSeed,
        ModelFingerprint = cache.Options.ModelFingerprint,
        Sequences = Named(),
        PageClasses = _classes.ToArray(),
        PageStates = _states.ToArray(),
    };

    /// <summary>The pages that lie in host memory.</summary>
    public IReadOnlySet<int> Away => _away.Values.ToHashSet();

    /// <summary>Captures sequences one after the other, each as it is between two of its steps.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="chosen">The sequences; null takes all that live, of a tenant if one is named.</param>
    /// <param name="tenant">The tenant, or null.</param>
    /// <param name="cancel">Ends the wait for a sequence.</param>
    /// <exception cref="ObjectDisposedException">A chosen sequence, or the cache, was disposed.</exception>
    public static CacheCapture Of(CacheState cache, SequenceState[]? chosen, string? tenant, CancellationToken cancel)
    {
        // One capture at a time: a sequence is handed to the one who waits for it.
        while (!cache.CaptureGate.TryEnter(CancelPoll))
        {
            cancel.ThrowIfCancellationRequested();
        }

        var capture = new CacheCapture(cache);
        try
        {
            foreach (SequenceState sequence in chosen ?? Living(cache, tenant))
            {
                if (!sequence.Gate.EnterNext(cancel, () => sequence.Holder?.Settle(sequence)))
                {
                    // Of all that live, one that has gone meanwhile is none.
                    if (chosen is not null)
                    {
                        throw new ObjectDisposedException("KvSequence", "expected live sequences, got one that was disposed");
                    }

                    continue;
                }

                try
                {
                    capture.Add(sequence);
                }
                finally
                {
                    sequence.Gate.Leave();
                }
            }

            return capture;
        }
        catch
        {
            capture.Dispose();
            throw;
        }
        finally
        {
            cache.CaptureGate.Leave();
        }
    }

    /// <summary>The sequences that live, of a tenant if one is named.</summary>
    public static SequenceState[] Living(CacheState cache, string? tenant)
    {
        using (cache.Pool.Gate.Enter())
        {
            cache.ThrowIfDisposed();
            return [.. Enumerable.Range(0, cache.Places).Select(cache.SequenceAt).OfType<SequenceState>()
                .Where(sequence => sequence.IsHandedOut && (tenant is null || sequence.Options.Tenant == tenant))];
        }
    }

    /// <summary>Captures a sequence, held by the caller.</summary>
    public void Add(SequenceState sequence)
    {
        PageTable table = sequence.Table;
        if (Enumerable.Range(0, cache.Geometry.Layers).Any(table.HasMerged))
        {
            // A snapshot tells pages by their index, which says nothing of a merged one's tokens.
            throw new KvUnsupportedException("saving a sequence", "pages that were not merged", $"merged ones ({nameof(KvCacheOptions.MergePages)})");
        }

        int[] starts = new int[table.Rows + 1];
        for (int row = 0; row < table.Rows; row++)
        {
            starts[row + 1] = starts[row] + table.Count(row);
        }

        int[] indexes = new int[starts[^1]];
        int[] ordinals = new int[starts[^1]];
        Hold(table, starts, indexes, ordinals);
        for (int row = 0; row < table.Rows; row++)
        {
            for (int entry = starts[row]; entry < starts[row + 1]; entry++)
            {
                if (ordinals[entry] < 0)
                {
                    ordinals[entry] = Copy(table.Slot(row, entry - starts[row]), table.TokensIn(row, entry - starts[row]));
                }
            }
        }

        if (sequence.Away is { Count: > 0 } away)
        {
            AddAway(away, ref starts, ref indexes, ref ordinals);
        }

        if (sequence.Name is null)
        {
            _unnamed.Add(_sequences.Count);
        }

        _sequences.Add(new SnapshotSequence
        {
            Id = sequence.Name ?? "",
            Tenant = sequence.Options.Tenant,
            Adapter = sequence.Options.Adapter,
            TokenIds = sequence.TokenIds.ToArray(),
            Steps = cache.Clock.NextStep,
            FirstOpenPage = table.FirstOpen,
            RowStarts = starts,
            PageIndexes = indexes,
            Ordinals = ordinals,
            Metadata = SequenceStanding.Of(sequence, cache.ScalesOf(table)),
            Scores = SequenceColumns.Of(cache, sequence, starts, indexes),
        });
    }

    /// <summary>Copies pages out and lets go of them: a <see cref="SnapshotPageReader"/>.</summary>
    public void Read(int firstOrdinal, Span<byte> bytes)
    {
        Span<int> words = MemoryMarshal.Cast<byte, int>(bytes);
        int ordinal = firstOrdinal;
        for (; words.Length > 0; ordinal++)
        {
            int source = _sources[ordinal];
            PageLayout layout = cache.Tier.Shape.Classes[_classes[ordinal]];
            int length = layout.Bytes / sizeof(int);
            if (source < 0)
            {
                _copies[~source].Span.CopyTo(words);
            }
            else
            {
                Read(ordinal, source, words[..length]);
            }

            // Tokens that were rolled back or cut off lie in a page until others take their place: no one is to find them in a file.
            PageTokens.ClearBeyond(layout, _tokens[ordinal], isOpen: (_states[ordinal] & PageState.Sealed) == 0, words[..length]);

            words = words[length..];
        }

        LetGo(firstOrdinal, ordinal);
    }

    /// <summary>Lets go of what was not read.</summary>
    public void Dispose() => LetGo(0, _sources.Count);

    // A sequence without a name is called by its place, or by the next number if another has that for its name, as a loaded one may.
    private SnapshotSequence[] Named()
    {
        SnapshotSequence[] named = [.. _sequences];
        HashSet<string> taken = [.. named.Where((_, i) => !_unnamed.Contains(i)).Select(sequence => sequence.Id)];
        foreach (int place in _unnamed)
        {
            int number = place;
            while (!taken.Add($"{number}"))
            {
                number++;
            }

            named[place] = named[place] with { Id = $"{number}" };
        }

        return named;
    }

    private void LetGo(int first, int end)
    {
        Span<int> sources = CollectionsMarshal.AsSpan(_sources)[first..end];
        using (cache.Pool.Gate.Enter())
        {
            foreach (int slot in sources)
            {
                // Copies hold no slot.
                if (slot > 0 && !cache.IsDisposed)
                {
                    cache.Pool.Release(slot);
                }
            }

            for (int ordinal = first; ordinal < end; ordinal++)
            {
                if (_awayAt.Remove(ordinal, out HostPage? page))
                {
                    page.Leave(cache.Offload!.Room);
                }
            }
        }

        sources.Clear();
    }

    private void Read(int ordinal, int slot, Span<int> words)
    {
        using (cache.DeviceGate.Enter())
        {
            // The cache may be disposed while a snapshot streams.
            cache.ThrowIfDisposed();
            if (_awayAt.TryGetValue(ordinal, out HostPage? page))
            {
                page.Words.CopyTo(words);
            }
            else
            {
                cache.Reader.Read(slot, words);
            }
        }
    }

    private void Hold(PageTable table, int[] starts, int[] indexes, int[] ordinals)
    {
        PagePool pool = cache.Pool;
        using (pool.Gate.Enter())
        {
            for (int row = 0; row < table.Rows; row++)
            {
                for (int entry = starts[row]; entry < starts[row + 1]; entry++)
                {
                    int slot = table.Slot(row, entry - starts[row]);
                    indexes[entry] = table.PageIndex(row, entry - starts[row]);
                    if (!pool.IsSealed(slot))
                    {
                        ordinals[entry] = -1;
                    }
                    else if (!_held.TryGetValue(slot, out ordinals[entry]))
                    {
                        pool.AddReference(slot);
                        _held[slot] = ordinals[entry] = Note(slot, PageState.Sealed);
                        _sources.Add(slot);
                    }

                    if (ordinals[entry] >= 0)
                    {
                        // Of sequences that share it, as many as the one that holds the most.
                        int tokens = table.TokensIn(row, entry - starts[row]);
                        _tokens[ordinals[entry]] = Math.Max(_tokens[ordinals[entry]], tokens);
                    }
                }
            }
        }
    }

    // Puts the pages in host memory among those of each row, ascending. They never change: they are held as sealed ones are.
    private void AddAway(AwayPages away, ref int[] starts, ref int[] indexes, ref int[] ordinals)
    {
        (int[] ownStarts, int[] ownIndexes, int[] ownOrdinals) = (starts, indexes, ordinals);
        int all = indexes.Length + away.Count;
        (starts, indexes, ordinals) = (new int[ownStarts.Length], new int[all], new int[all]);
        for (int row = 0, to = 0; row < starts.Length - 1; row++)
        {
            ReadOnlySpan<HostPage> pages = away.Of(row);
            int next = 0;
            for (int entry = ownStarts[row]; entry < ownStarts[row + 1] || next < pages.Length; to++)
            {
                bool isAway = entry == ownStarts[row + 1] || (next < pages.Length && pages[next].Page < ownIndexes[entry]);
                (indexes[to], ordinals[to]) = isAway ? (pages[next].Page, OrdinalOf(pages[next])) : (ownIndexes[entry], ownOrdinals[entry]);
                (next, entry) = isAway ? (next + 1, entry) : (next, entry + 1);
            }

            starts[row + 1] = to;
        }
    }

    private int OrdinalOf(HostPage page)
    {
        if (!_away.TryGetValue(page, out int ordinal))
        {
            _away[page] = ordinal = Note(page.Class, page.Encodings, PageState.Sealed);
            _tokens[ordinal] = cache.Geometry.PageTokens;
            _sources.Add(0);
            _awayAt.Add(ordinal, page);
            using (cache.Pool.Gate.Enter())
            {
                page.Share();
            }
        }

        return ordinal;
    }

    // A page that forks share is copied once, if neither wrote on in it between their captures; it holds the tokens of the longest.
    private int Copy(int slot, int tokens)
    {
        int[] words = new int[cache.Tier.Shape.Classes[KernelShape.Open].Bytes / sizeof(int)];
        Read(-1, slot, words);
        ref List<int>? seen = ref CollectionsMarshal.GetValueRefOrAddDefault(_copied, slot, out _);
        seen ??= [];
        foreach (int ordinal in seen)
        {
            if (_copies[~_sources[ordinal]].Span.SequenceEqual(words))
            {
                _tokens[ordinal] = Math.Max(_tokens[ordinal], tokens);
                return ordinal;
            }
        }

        int added;
        using (cache.Pool.Gate.Enter())
        {
            added = Note(slot, 0);
        }

        _tokens[added] = tokens;
        _sources.Add(~_copies.Count);
        _copies.Add(words);
        seen.Add(added);
        return added;
    }

    private int Note(int slot, int state) => Note(cache.Pool.ClassOf(slot), cache.Pool.EncodingsOf(slot), state);

    private int Note(int pageClass, Encodings encodings, int state)
    {
        _classes.Add((byte)pageClass);
        _states.Add((byte)(state | encodings.Packed));
        _tokens.Add(0);
        return _classes.Count - 1;
    }
}

/// <summary>The state of each page in a snapshot: how often its keys and values were encoded with loss, 2 bits each, and whether it is sealed.</summary>
internal static class PageState
{
    public const int Sealed = 1 << 4;

    private const int EncodingsMask = Sealed - 1;

    public static Encodings EncodingsOf(int state) => Encodings.Of(state & EncodingsMask);
}
