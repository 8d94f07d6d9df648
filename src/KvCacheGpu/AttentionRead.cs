using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>One attention to a sequence outside of steps: what it may ask for, and what it leaves where it counts. The sequence is the caller's.</summary>
internal readonly ref struct AttentionRead
{
    private readonly KvSequence _sequence;
    private readonly KvTensor _queries;
    private readonly int _layer;
    private readonly int _window;
    private readonly bool _counts;

    public AttentionRead(KvSequence sequence, int layer, KvTensor queries, int window, bool counts)
    {
        (_sequence, _layer, _window, _counts) = (sequence, layer, window, counts);
        _queries = queries;
        KvGeometry geometry = sequence.Cache.Geometry;
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        KvCache.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        int most = Math.Min(sequence.Table.Length, sequence.Cache.Settings.MaxBatchTokens);
        Queries = queries.TokensOf(geometry.QueryHeads, geometry.KeyWidth);
        if (Queries < 1 || Queries > most)
        {
            throw new ArgumentException($"queries: expected 1..{most} of {geometry.QueryHeads} heads of width {geometry.KeyWidth}, got {Queries}", nameof(queries));
        }

        queries.ThrowIfNotShaped(Queries, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        ThrowIfNotSeen();
    }

    public int Queries { get; }

    public int Rows => Queries * _sequence.Cache.Geometry.QueryHeads;

    /// <summary>Takes working memory and sets its batch; the caller gives it back by <see cref="KvCache.EndRead"/>.</summary>
    public StepMemory Begin()
    {
        StepMemory memory = _sequence.Cache.BeginRead();
        try
        {
            PageTable table = _sequence.Table;
            memory.Batch.Begin([new RaggedSequence(table.Sequence, 0, Queries, table.Length, KeepsStatistics: !_counts)]);
            return memory;
        }
        catch
        {
            _sequence.Cache.EndRead(memory);
            throw;
        }
    }

    /// <summary>Tells the policy, where this counts, what the last query asked and got.</summary>
    public void Count(StepMemory memory, ReadOnlySpan<float> output)
    {
        if (!_counts)
        {
            return;
        }

        KvCache cache = _sequence.Cache;
        if (_window > 0)
        {
            cache.NoteWindow(_layer);
        }

        _sequence.NoteAttended(_layer);
        if (_sequence.Scores is { } scores)
        {
            bool isSample = (cache.Needs & (KvStatistics.Mass | KvStatistics.Queries)) != 0;
            if (isSample)
            {
                memory.Batch.Score(cache.Settings.Policy!.Decay, (int)cache.NextStep + 1);
            }

            PageTable table = _sequence.Table;
            scores.See(_layer, new RaggedSequence(table.Sequence, 0, Queries, table.Length), _queries, output);
            scores.PublishRead(_layer, isSample);
        }
    }

    // Kernels go by page indexes, and by where a row ends: what a query sees must lie as it was written.
    private void ThrowIfNotSeen()
    {
        PageTable table = _sequence.Table;
        (int heads, int pageTokens) = (_sequence.Cache.Geometry.KvHeads, _sequence.Cache.Geometry.PageTokens);
        int firstPage = (table.Length - Queries) / pageTokens;
        _sequence.ThrowIfWindowOverMerged(_layer, _window);
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

    // All pages from the given one to the last: rows ascend, so that as many entries as pages are these pages.
    private bool ListsAsWritten(int row, int firstPage)
    {
        PageTable table = _sequence.Table;
        int lastPage = (table.Length - 1) / _sequence.Cache.Geometry.PageTokens;
        int first = table.Count(row) - 1 - (lastPage - firstPage);
        bool isWhole = first >= 0 && table.PageIndex(row, first) == firstPage;
        for (int entry = first; isWhole && entry < table.Count(row); entry++)
        {
            isWhole = !table.IsMerged(row, entry);
        }

        return isWhole;
    }
}
