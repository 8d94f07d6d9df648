using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>One attention to a sequence outside of steps: checks what it may ask for, and tells the policy where it counts. The sequence is the caller's.</summary>
internal readonly ref struct AttentionRead
{
    private readonly CacheState _cache;
    private readonly SequenceState _sequence;
    private readonly KvTensor _queries;
    private readonly int _layer;
    private readonly int _window;
    private readonly bool _counts;

    /// <exception cref="ArgumentException">No such layer, too many queries or none, or a tensor of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: kernels cannot tell what the queries see.</exception>
    public AttentionRead(CacheState cache, SequenceState sequence, int layer, KvTensor queries, int window, bool counts)
    {
        (_cache, _sequence, _layer, _window, _counts) = (cache, sequence, layer, window, counts);
        _queries = queries;
        KvGeometry geometry = cache.Geometry;
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        int most = Math.Min(sequence.Length, cache.Options.MaxBatchTokens);
        Queries = queries.TokensOf(geometry.QueryHeads, geometry.KeyWidth);
        if (Queries < 1 || Queries > most)
        {
            throw new ArgumentException($"queries: expected 1..{most} of {geometry.QueryHeads} heads of width {geometry.KeyWidth}, got {Queries}", nameof(queries));
        }

        queries.ThrowIfNotShaped(Queries, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        ThrowIfNotSeen();
    }

    /// <summary>Queries.</summary>
    public int Queries { get; }

    /// <summary>Vectors of the queries and of the output: one for each query and query head.</summary>
    public int Vectors => Queries * _cache.Geometry.QueryHeads;

    /// <exception cref="KvUnsupportedException">
    /// E009: a merged page's tokens are of several pages, so that kernels know no positions by which a window could cut it.
    /// </exception>
    public static void ThrowIfWindowOverMerged(PageTable table, int layer, int window)
    {
        if (window > 0 && table.HasMerged(layer))
        {
            throw new KvUnsupportedException(
                $"Attend to layer {layer} through a window", "pages that were not merged", $"merged ones ({nameof(KvCacheOptions.MergePages)})");
        }
    }

    /// <summary>Borrows working memory, and begins its batch; waits while other reads hold all that there is room for. <see cref="End"/> gives it back.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all of it.</exception>
    public StepMemory Begin()
    {
        StepMemory memory = Borrow();
        try
        {
            PageTable table = _sequence.Table;
            memory.Batch.Begin([new RaggedSequence(table.Sequence, 0, Queries, table.Length, KeepsStatistics: !_counts)]);
            return memory;
        }
        catch
        {
            End(memory);
            throw;
        }
    }

    /// <summary>Gives the working memory back.</summary>
    public void End(StepMemory memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            _cache.Room.EndRead(memory);
        }
    }

    /// <summary>Tells the policy, if this counts, what the last query asked and got.</summary>
    public void Count(StepMemory memory, ReadOnlySpan<float> output)
    {
        if (!_counts)
        {
            return;
        }

        if (_window > 0)
        {
            _cache.NoteWindow(_layer);
        }

        _sequence.LastStep = _cache.Clock.Tick();
        _sequence.Attended.Add(_layer);
        if (_sequence.Scores is { } scores)
        {
            bool isSample = (_cache.Needs & (KvStatistics.Mass | KvStatistics.Queries)) != 0;
            if (isSample)
            {
                memory.Batch.Score(_cache.Options.Policy!.Decay, (int)_cache.Clock.NextStep + 1);
            }

            PageTable table = _sequence.Table;
            scores.See(_layer, new RaggedSequence(table.Sequence, 0, Queries, table.Length), _queries, output);
            scores.JoinRead(_layer, isSample);
        }
    }

    private StepMemory Borrow()
    {
        var wait = default(SpinWait);
        while (true)
        {
            using (_cache.Pool.Gate.Enter())
            {
                _cache.ThrowIfDisposed();
                if (_cache.Room.BeginRead(_sequence.Id) is { } memory)
                {
                    return memory;
                }
            }

            wait.SpinOnce();
        }
    }

    // Kernels go by page indexes, and by where a row ends: the tokens that a query sees must lie as they were written.
    private void ThrowIfNotSeen()
    {
        PageTable table = _sequence.Table;
        (int heads, int pageTokens) = (_cache.Geometry.KvHeads, _cache.Geometry.PageTokens);
        int firstPage = (table.Length - Queries) / pageTokens;
        ThrowIfWindowOverMerged(table, _layer, _window);
        for (int head = 0; head < heads; head++)
        {
            int row = (_layer * heads) + head;
            int last = table.Count(row) - 1;
            if (Queries == 1 && (last < 0 || (_window > 0 && (table.PageIndex(row, last) + 1L) * pageTokens <= table.Length - _window)))
            {
                throw new KvUnsupportedException($"Attend to layer {_layer}, head {head}", "a token that the query sees", "none: a policy dropped them");
            }

            if (Queries > 1 && !ListsAsWritten(row, firstPage))
            {
                throw new KvUnsupportedException(
                    $"Attend to layer {_layer}, head {head} by {Queries} queries", "all pages at their places resident, and not merged", "some that a policy dropped or merged: ask by fewer queries");
            }
        }
    }

    // True if all pages from the given one to the last are there. Rows ascend, so that as many entries as pages are these pages.
    private bool ListsAsWritten(int row, int firstPage)
    {
        PageTable table = _sequence.Table;
        int lastPage = (table.Length - 1) / _cache.Geometry.PageTokens;
        int first = table.Count(row) - 1 - (lastPage - firstPage);
        bool isWhole = first >= 0 && table.PageIndex(row, first) == firstPage;
        for (int entry = first; isWhole && entry < table.Count(row); entry++)
        {
            isWhole = !table.IsMerged(row, entry);
        }

        return isWhole;
    }
}
