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
        using var seen = new Pooled<int>(_sequences.Length * cache.Geometry.KvHeads);
        long all = 0;
        for (int i = 0; i < seen.Length; i++)
        {
            seen.Span[i] = Seen(i, window).Length;
            all += seen.Span[i];
        }

        int most = offload.PagesOfRow(seen.Span);
        bool inRounds = all > offload.Stage.Places && offload.ReadsAll && most > 0 && !output.IsOnDevice && ListLastPages();
        offload.EndAhead();
        using (offload.Stage.Gate.Enter())
        {
            if (inRounds)
            {
                AttendInRounds(batch, queries, output, window, most);
            }
            else
            {
                AttendOnce(batch, queries, output, window, most);
            }
        }

        if (offload.Ahead is { } ahead && new StagedAttention(cache, _sequences, _parts, (layer + 1) % cache.Geometry.Layers).Foreseen(window, most, inRounds) is { Length: > 0 } next)
        {
            ahead.Ask(next);
        }
    }

    // What the layer will read first, as far as this one's windows and numbers tell.
    private HostPage[] Foreseen(int window, int most, bool inRounds)
    {
        var pages = new List<HostPage>();
        for (int i = 0; i < Rows; i++)
        {
            ReadOnlySpan<HostPage> away = Seen(i, window);
            int first = inRounds && away.Length > most ? most : 0;
            HostPage[]? chosen = away.Length > most && !inRounds ? _sequences[i / cache.Geometry.KvHeads].Away!.Chosen[RowOf(i)] : null;
            pages.AddRange(chosen is not null ? chosen : away[first..Math.Min(away.Length, first + most)]);
        }

        return [.. pages.Take(cache.Offload!.Stage.Places)];
    }

    /// <exception cref="KvUnsupportedException">E009: a graph is captured, or replayed, which cannot bring pages.</exception>
    public void ThrowIfAway()
    {
        if (HasAway)
        {
            throw new KvUnsupportedException($"a graph that attends to layer {layer}", "all its pages on the device", $"some in host memory ({nameof(KvCacheOptions.Offload)})");
        }
    }

    private int Rows => _sequences.Length * cache.Geometry.KvHeads;

    // Everything resident and as many pages of each row as find a place, in one launch.
    private void AttendOnce(KernelBatch batch, KvTensor queries, KvOutput output, int window, int most)
    {
        using var counts = new Pooled<int>(Rows);
        using var pages = new Pooled<StagedPage>(cache.Offload!.Stage.Places);
        counts.Span.Clear();
        try
        {
            Bring(batch, queries, window, most, counts.Span, pages.Span);
            batch.Attend(layer, queries, output, window);
        }
        finally
        {
            Unlist(counts.Span, pages.Span);
        }
    }

    // All pages, as many at once as find a place. The last pages, where queries stand, are in every launch, since kernels count back from them: a launch of them alone tells what to take off.
    // The launch of what is resident comes last, so that statistics are of it.
    private void AttendInRounds(KernelBatch batch, KvTensor queries, KvOutput output, int window, int most)
    {
        PageStage stage = cache.Offload!.Stage;
        var merged = new MergedOutput(output.Host.Length / output.ElementBytes / cache.Geometry.ValueWidth, cache.Geometry.ValueWidth);
        KvOutput part = KvOutput.FromHost(merged.Output, merged.LogSumExp);
        int later = 0;
        (long fetched, long staged) = (0, 0);
        using var places = new Pooled<StagedPage>(most);
        using (var hidden = new HiddenRows(cache.Tier))
        {
            for (int i = 0; i < Rows; i++)
            {
                hidden.Add(TableOf(i), RowOf(i));
            }

            for (int first = most; ; first += most)
            {
                int shown = 0;
                stage.Begin();
                for (int i = 0; i < Rows; i++)
                {
                    ReadOnlySpan<HostPage> pages = Seen(i, window);
                    pages = pages[Math.Min(first, pages.Length)..Math.Min(first + most, pages.Length)];
                    (long own, long there) = Bring(stage, pages, places.Span);
                    (fetched, staged, shown) = (fetched + own, staged + there, shown + pages.Length);
                    hidden.Show(i, places.Span[..pages.Length], FirstLast(i));
                }

                batch.Attend(layer, queries, part, window);
                merged.Add(shown > 0 ? 1 : -later);
                if (shown == 0)
                {
                    break;
                }

                later++;
            }
        }

        using (var counts = new Pooled<int>(Rows))
        using (var pages = new Pooled<StagedPage>(stage.Places))
        {
            counts.Span.Clear();
            try
            {
                stage.Begin();
                for (int i = 0, at = 0; i < Rows; i++)
                {
                    ReadOnlySpan<HostPage> own = Seen(i, window);
                    own = own[..Math.Min(most, own.Length)];
                    (long brought, long there) = Bring(stage, own, pages.Span[at..]);
                    (fetched, staged) = (fetched + brought, staged + there);
                    StagedRow.List(cache.Tier, TableOf(i), RowOf(i), pages.Span.Slice(at, own.Length));
                    counts.Span[i] = own.Length;
                    at += own.Length;
                }

                batch.Attend(layer, queries, part, window);
                merged.Add(1);
            }
            finally
            {
                Unlist(counts.Span, pages.Span);
            }
        }

        merged.WriteTo(output);
        cache.Offload.Room.Count(fetched, staged, 0);
    }

    // Brings pages to the device, and says where they lie.
    private static (long Fetched, long Staged) Bring(PageStage stage, ReadOnlySpan<HostPage> pages, Span<StagedPage> places)
    {
        long fetched = 0;
        for (int page = 0; page < pages.Length; page++)
        {
            fetched += stage.Bring(pages[page], out int slot) ? 1 : 0;
            places[page] = new StagedPage(pages[page].Page, slot, pages[page].Class);
        }

        return (fetched, pages.Length - fetched);
    }

    // True if every row lists the pages in which its queries stand.
    private bool ListLastPages()
    {
        for (int i = 0; i < Rows; i++)
        {
            if (TableOf(i).EntryOf(RowOf(i), FirstLast(i)) < 0)
            {
                return false;
            }
        }

        return true;
    }

    // The page of the first query of a row.
    private int FirstLast(int place)
    {
        RaggedSequence part = _parts[place / cache.Geometry.KvHeads];
        return (part.Length - part.Tokens) / cache.Geometry.PageTokens;
    }

    // Brings pages and lists them, row by row; writes how many each row lists.
    private void Bring(KernelBatch batch, KvTensor queries, int window, int most, Span<int> listed, Span<StagedPage> pages)
    {
        Offloading offload = cache.Offload!;
        int heads = cache.Geometry.KvHeads;
        using var chosen = new Pooled<int>(most);

        // Choosing needs the queries here: they are read back once, if there is anything to choose.
        bool readsBack = false;
        for (int i = 0; i < listed.Length && queries.IsOnDevice; i++)
        {
            readsBack |= Seen(i, window).Length > most;
        }

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
            ReadOnlySpan<HostPage> candidates = Seen(i, window);
            Span<int> own = chosen.Span[..Math.Min(most, candidates.Length)];
            if (own.Length < candidates.Length)
            {
                offload.Queries.Take(queries, _parts[sequence].FirstToken, _parts[sequence].Tokens, head);
                offload.Choose(candidates, ExponentsOf(sequence, head), own);
                Note(candidates, own, ref _sequences[sequence].Away!.Chosen[RowOf(i)]);
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
                (long brought, long there) = Bring(offload.Stage, candidates.Slice(own[page], 1), places[page..]);
                (fetched, staged) = (fetched + brought, staged + there);
            }

            StagedRow.List(cache.Tier, TableOf(i), RowOf(i), places);
            listed[i] = places.Length;
            at += places.Length;
        }

        offload.Room.Count(fetched, staged, leftOut);
    }

    private static void Note(ReadOnlySpan<HostPage> candidates, ReadOnlySpan<int> chosen, ref HostPage[]? noted)
    {
        noted = new HostPage[chosen.Length];
        for (int page = 0; page < chosen.Length; page++)
        {
            noted[page] = candidates[chosen[page]];
        }
    }

    private void Unlist(ReadOnlySpan<int> listed, ReadOnlySpan<StagedPage> pages)
    {
        for (int i = 0; i < listed.Length; i++)
        {
            StagedRow.Unlist(cache.Tier, TableOf(i), RowOf(i), pages[..listed[i]]);
            pages = pages[listed[i]..];
        }
    }

    // The row's pages in host memory that a query sees: those of the positions before a window are no use.
    private ReadOnlySpan<HostPage> Seen(int place, int window)
    {
        int sequence = place / cache.Geometry.KvHeads;
        ReadOnlySpan<HostPage> away = _sequences[sequence].Away is { } all ? all.Of(RowOf(place)) : [];
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

    // Rows of the layer are numbered sequence by sequence, head by head.
    private PageTable TableOf(int place) => _sequences[place / cache.Geometry.KvHeads].Table;

    private int RowOf(int place) => (layer * cache.Geometry.KvHeads) + (place % cache.Geometry.KvHeads);
}
