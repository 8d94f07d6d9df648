using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// One attention to sequences outside of steps: checks what it may ask for, and tells the policy where it counts. The sequences are the caller's. Its work
/// is enqueued on the stream of the queries.
/// </summary>
internal readonly ref struct AttentionRead
{
    private readonly CacheState _cache;
    private readonly ReadOnlySpan<SequenceState> _sequences;
    private readonly ReadOnlySpan<int> _each;
    private readonly KvTensor _queries;
    private readonly int _layer;
    private readonly int _window;
    private readonly bool _counts;

    /// <param name="cache">The cache.</param>
    /// <param name="sequences">Whom to ask.</param>
    /// <param name="each">Queries of each sequence, as many in all as the tensor has; empty if all are the only sequence's.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="queries"><c>[queries][query heads][key width]</c>, the first sequence's first.</param>
    /// <param name="window">The window, or 0.</param>
    /// <param name="counts">True if the policy takes each sequence's last query for attention that its tokens received.</param>
    /// <exception cref="ArgumentException">No such layer, too many queries or none, a tensor of another shape, or a stream of another device or context.</exception>
    /// <exception cref="KvUnsupportedException">E009: kernels cannot tell what the queries see.</exception>
    public AttentionRead(
        CacheState cache, ReadOnlySpan<SequenceState> sequences, ReadOnlySpan<int> each, int layer, KvTensor queries, int window, bool counts)
    {
        (_cache, _layer, _window, _counts) = (cache, layer, window, counts);
        _sequences = sequences;
        _each = each;
        _queries = queries;
        KvGeometry geometry = cache.Geometry;
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        Queries = queries.TokensOf(geometry.QueryHeads, geometry.KeyWidth);
        int wanted = 0;
        for (int i = 0; i < sequences.Length; i++)
        {
            int most = Math.Min(sequences[i].Length, cache.Options.MaxBatchTokens - wanted);
            if (sequences[i].Length == 0)
            {
                throw new ArgumentException($"queries: expected sequences that have tokens to attend to, got an empty one at {i}", nameof(queries));
            }

            if (QueriesOf(i) < 1 || QueriesOf(i) > most)
            {
                throw new ArgumentException(
                    $"queries: expected 1..{most} of {geometry.QueryHeads} heads of width {geometry.KeyWidth} for sequence {i}, got {QueriesOf(i)}", nameof(queries));
            }

            wanted += QueriesOf(i);
        }

        queries.ThrowIfNotShaped(wanted, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        Queries = wanted;
        for (int i = 0; i < sequences.Length; i++)
        {
            ThrowIfNotSeen(sequences[i], QueriesOf(i));
        }
    }

    // Over all sequences.
    private int Queries { get; }

    // Vectors of the queries and of the output: one for each query and query head.
    private int Vectors => Queries * _cache.Geometry.QueryHeads;

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

    // Borrows working memory, and begins its batch; waits while other reads hold all that there is room for.
    private StepMemory Begin(Span<RaggedSequence> parts)
    {
        StepMemory memory = Borrow();
        try
        {
            for (int i = 0, first = 0; i < _sequences.Length; first += QueriesOf(i++))
            {
                PageTable table = _sequences[i].Table;
                parts[i] = new RaggedSequence(table.Sequence, first, QueriesOf(i), table.Length, !_counts, Math.Max(table.KeyTable, 0));
            }

            memory.Batch.Begin(parts, _queries.Stream);
            return memory;
        }
        catch
        {
            End(memory);
            throw;
        }
    }

    /// <summary>Attends, counts, and gives the working memory back.</summary>
    /// <exception cref="ArgumentException">A target of another shape.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all the working memory.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory.</exception>
    public void Run(KvOutput output)
    {
        output = output.First(Vectors, _cache.Geometry.ValueWidth);
        using var parts = new Pooled<RaggedSequence>(_sequences.Length);
        try
        {
            _cache.Tier.ThrowIfNotMine(_queries.Stream);
            StepMemory memory = Begin(parts.Span);
            try
            {
                try
                {
                    new StagedAttention(_cache, _sequences, parts.Span, _layer).Attend(memory.Batch, _queries, output, _window);
                    Count(memory, output);
                }
                finally
                {
                    // Also where the tensors are refused: the stream is its host's again when the call returns.
                    memory.Batch.Finish();
                }
            }
            finally
            {
                End(memory);
            }
        }
        catch (NotSupportedException e)
        {
            throw new KvUnsupportedException($"Attend on {_cache.Tier.Name}", "memory that the device reads", e.Message, e);
        }
    }

    // Gives the working memory back.
    private void End(StepMemory memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            _cache.Room.EndRead(memory);
        }
    }

    // Tells the policy, if this counts, what each sequence's last query asked and got.
    private void Count(StepMemory memory, KvOutput output)
    {
        if (!_counts)
        {
            return;
        }

        _cache.NoteWindow(_layer, _window);
        bool isSample = _cache.Options.Policy is not null && (_cache.Needs & (KvStatistics.Mass | KvStatistics.Queries)) != 0;
        if (isSample)
        {
            memory.Batch.Score(_cache.Options.Policy!.Decay, (int)_cache.Clock.NextStep + 1);
        }

        for (int i = 0, first = 0; i < _sequences.Length; first += QueriesOf(i++))
        {
            SequenceState sequence = _sequences[i];
            sequence.LastStep = _cache.Clock.Tick();
            sequence.Attended.Add(_layer);
            sequence.Scores?.See(_layer, new RaggedSequence(sequence.Table.Sequence, first, QueriesOf(i), sequence.Length), _queries, output);
            sequence.Scores?.JoinRead(_layer, isSample);
        }
    }

    private int QueriesOf(int sequence) => _each.IsEmpty ? Queries : _each[sequence];

    private StepMemory Borrow()
    {
        var wait = default(SpinWait);
        while (true)
        {
            try
            {
                using (_cache.Pool.Gate.Enter())
                {
                    _cache.ThrowIfDisposed();
                    if (_cache.Room.BeginRead(_sequences.Length == 1 ? _sequences[0].Id : null) is { } memory)
                    {
                        return memory;
                    }
                }

                wait.SpinOnce();
            }
            catch (KvOutOfMemoryException)
            {
                // Steps that wait for their outcome hold working memory.
                if (!_cache.Unsettled.SettleAll())
                {
                    throw;
                }
            }
        }
    }

    // Kernels go by page indexes, and by where a row ends: the tokens that a query sees must lie as they were written.
    private void ThrowIfNotSeen(SequenceState sequence, int queries)
    {
        PageTable table = sequence.Table;
        (int heads, int pageTokens) = (_cache.Geometry.KvHeads, _cache.Geometry.PageTokens);
        int firstPage = (table.Length - queries) / pageTokens;
        ThrowIfWindowOverMerged(table, _layer, _window);
        for (int head = 0; head < heads; head++)
        {
            int row = (_layer * heads) + head;
            int last = table.Count(row) - 1;
            bool comesBack = sequence.Away?.Of(row).IsEmpty == false;
            if (queries == 1 && !comesBack && (last < 0 || (_window > 0 && (table.PageIndex(row, last) + 1L) * pageTokens <= table.Length - _window)))
            {
                throw new KvUnsupportedException($"Attend to layer {_layer}, head {head}", "a token that the query sees", "none: a policy dropped them");
            }

            if (queries > 1 && !ListsAsWritten(table, row, firstPage))
            {
                throw new KvUnsupportedException(
                    $"Attend to layer {_layer}, head {head} by {queries} queries", "all pages at their places resident, and not merged", "some that a policy dropped or merged: ask by fewer queries");
            }
        }
    }

    // True if all pages from the given one to the last are there. Rows ascend, so that as many entries as pages are these pages.
    private bool ListsAsWritten(PageTable table, int row, int firstPage)
    {
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
