using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Attention over a layer of which pages lie in host memory: brings as many as fit to the device, lists them in the rows for one launch, and takes them out again. Where no page is
/// away it is the launch alone.
/// </summary>
internal readonly ref struct StagedAttention(CacheState cache, ReadOnlySpan<SequenceState> sequences, ReadOnlySpan<RaggedSequence> parts, int layer)
{
    private readonly ReadOnlySpan<SequenceState> _sequences = sequences;
    private readonly ReadOnlySpan<RaggedSequence> _parts = parts;

    /// <summary>True if a sequence has pages of the layer in host memory.</summary>
    public bool HasAway
    {
        get
        {
            int heads = cache.Geometry.KvHeads;
            foreach (SequenceState sequence in _sequences)
            {
                for (int head = 0; head < heads && sequence.Away is { Count: > 0 } away; head++)
                {
                    if (!away.Of((layer * heads) + head).IsEmpty)
                    {
                        return true;
                    }
                }
            }

            return false;
        }
    }

    /// <summary>Attends.</summary>
    /// <param name="batch">The sequences' batch, which has begun.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>.</param>
    /// <param name="output">Receives the output.</param>
    /// <param name="window">The window, or 0.</param>
    public void Attend(KernelBatch batch, KvTensor queries, KvOutput output, int window)
    {
        if (!HasAway)
        {
            batch.Attend(layer, queries, output, window);
            return;
        }

        if (batch.CapturesFrom is not null)
        {
            ThrowIfAway();
        }

        Offloading offload = cache.Offload!;
        int rows = _sequences.Length * cache.Geometry.KvHeads;
        using var counts = new Pooled<int>(rows);
        using var pages = new Pooled<StagedPage>(offload.Stage.Places);
        counts.Span.Clear();
        using (offload.Stage.Gate.Enter())
        {
            try
            {
                Bring(batch, queries, window, counts.Span, pages.Span);
                batch.Attend(layer, queries, output, window);
            }
            finally
            {
                Unlist(counts.Span, pages.Span);
            }
        }
    }

    /// <exception cref="KvUnsupportedException">E009: a graph is captured, or replayed, which cannot bring pages.</exception>
    public void ThrowIfAway()
    {
        if (HasAway)
        {
            throw new KvUnsupportedException($"a graph that attends to layer {layer}", "all its pages on the device", $"some in host memory ({nameof(KvCacheOptions.Offload)})");
        }
    }

    // Brings pages and lists them, row by row; writes how many each row lists.
    private void Bring(KernelBatch batch, KvTensor queries, int window, Span<int> listed, Span<StagedPage> pages)
    {
        Offloading offload = cache.Offload!;
        int heads = cache.Geometry.KvHeads;
        using var seen = new Pooled<int>(listed.Length);
        for (int i = 0; i < listed.Length; i++)
        {
            seen.Span[i] = Seen(i / heads, i % heads, window).Length;
        }

        int most = offload.PagesOfRow(seen.Span);
        using var chosen = new Pooled<int>(most);

        // Choosing needs the queries here: they are read back once, if there is anything to choose.
        bool readsBack = queries.IsOnDevice && seen.Span.ContainsAnyExceptInRange(0, most);
        using var read = new Pooled<byte>(readsBack ? checked((int)(queries.Length * queries.ElementBytes)) : 0);
        if (readsBack)
        {
            batch.ReadBack(queries, read.Span);
            queries = queries.InHost(read.Span);
        }

        offload.Stage.Begin();
        (long fetched, long staged, long leftOut, int at) = (0, 0, 0, 0);
        for (int i = 0; i < listed.Length; i++)
        {
            (int sequence, int head) = Math.DivRem(i, heads);
            ReadOnlySpan<HostPage> candidates = Seen(sequence, head, window);
            Span<int> own = chosen.Span[..Math.Min(most, candidates.Length)];
            if (own.Length < candidates.Length)
            {
                offload.Queries.Take(queries, _parts[sequence].FirstToken, _parts[sequence].Tokens, head);
                offload.Choose(candidates, ExponentsOf(sequence, head), own);
            }
            else
            {
                for (int page = 0; page < own.Length; page++)
                {
                    own[page] = page;
                }
            }

            leftOut += candidates.Length - own.Length;
            Span<StagedPage> places = pages.Slice(at, own.Length);
            for (int page = 0; page < own.Length; page++)
            {
                HostPage wanted = candidates[own[page]];
                bool isFetched = offload.Stage.Bring(wanted, out int slot);
                (fetched, staged) = isFetched ? (fetched + 1, staged) : (fetched, staged + 1);
                places[page] = new StagedPage(wanted.Page, slot, wanted.Class);
            }

            StagedRow.List(cache.Tier, _sequences[sequence].Table, RowOf(head), places);
            listed[i] = places.Length;
            at += places.Length;
        }

        offload.Room.Count(fetched, staged, leftOut);
    }

    private void Unlist(ReadOnlySpan<int> listed, ReadOnlySpan<StagedPage> pages)
    {
        int heads = cache.Geometry.KvHeads;
        for (int i = 0; i < listed.Length; i++)
        {
            StagedRow.Unlist(cache.Tier, _sequences[i / heads].Table, RowOf(i % heads), pages[..listed[i]]);
            pages = pages[listed[i]..];
        }
    }

    // The row's pages in host memory that a query sees: those of the positions before a window are no use.
    private ReadOnlySpan<HostPage> Seen(int sequence, int head, int window)
    {
        ReadOnlySpan<HostPage> away = _sequences[sequence].Away is { } all ? all.Of(RowOf(head)) : [];
        long first = window == 0 ? 0 : (long)_parts[sequence].Length - _parts[sequence].Tokens - window + 1;
        int unseen = 0;
        while (unseen < away.Length && (away[unseen].Page + 1L) * cache.Geometry.PageTokens <= first)
        {
            unseen++;
        }

        return away[unseen..];
    }

    private ReadOnlySpan<byte> ExponentsOf(int sequence, int head) =>
        cache.ScalesOf(_sequences[sequence].Table) is { } scales ? scales.Of(RowOf(head)) : [];

    private int RowOf(int head) => (layer * cache.Geometry.KvHeads) + head;
}
