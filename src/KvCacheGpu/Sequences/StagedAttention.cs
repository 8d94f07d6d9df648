using System.Runtime.InteropServices;
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
        // What is captured runs later.
        long began = batch.CapturesFrom is null ? Durations.Begin(Durations.Attend) : 0;
        AttendAll(batch, queries, output, window);
        Durations.End(Durations.Attend, began, cache.Counts.Own);
    }

    private void AttendAll(KernelBatch batch, KvTensor queries, KvOutput output, int window)
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
        (long all, int longest) = (0, 0);
        for (int i = 0; i < seen.Length; i++)
        {
            seen.Span[i] = Seen(i, window).Length;
            all += seen.Span[i];
            longest = Math.Max(longest, seen.Span[i]);
        }

        int wanted = offload.Wanted(MostTokens);
        int most = offload.PagesOfRow(seen.Span, wanted);
        bool inRounds = all > offload.Stage.Places && wanted >= longest && most > 0 && ListLastPages();
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

    // Tokens of the sequence that has most.
    private int MostTokens
    {
        get
        {
            int most = 0;
            foreach (RaggedSequence part in _parts)
            {
                most = Math.Max(most, part.Tokens);
            }

            return most;
        }
    }

    private int Rows => _sequences.Length * cache.Geometry.KvHeads;

    // Everything resident and as many pages of each row as find a place, in one launch.
    private void AttendOnce(KernelBatch batch, KvTensor queries, KvOutput output, int window, int most)
    {
        var pages = new List<HostPage>();
        using var counts = new Pooled<int>(Rows);
        long leftOut = Choose(batch, queries, window, most, pages, counts.Span);
        long missing = AttendTo(pages, counts.Span, batch, queries, output, window);
        cache.Offload!.Room.Count(missing, pages.Count - missing, leftOut);
    }

    // All pages, as many at once as find a place. The last pages, where queries stand, are in every launch, since kernels count back from them: a launch of them alone tells what to take off.
    // The launch of what is resident comes last, so that statistics are of it.
    private void AttendInRounds(KernelBatch batch, KvTensor queries, KvOutput output, int window, int most)
    {
        PageStage stage = cache.Offload!.Stage;
        var merged = new MergedOutput(checked((int)(output.Length / cache.Geometry.ValueWidth)), cache.Geometry.ValueWidth);
        KvOutput part = KvOutput.FromHost(merged.Output, merged.LogSumExp);
        var pages = new List<HostPage>();
        using var counts = new Pooled<int>(Rows);
        int later = 0;
        (long missing, long all) = (0, 0);
        using (var hidden = new HiddenRows(cache.Tier))
        {
            for (int i = 0; i < Rows; i++)
            {
                hidden.Add(TableOf(i), RowOf(i));
            }

            for (int first = most; ; first += most)
            {
                Take(window, first, most, pages, counts.Span);
                using var places = new Pooled<StagedPage>(pages.Count);
                missing += Bring(stage, pages, places.Span);
                for (int i = 0, at = 0; i < Rows; at += counts.Span[i], i++)
                {
                    hidden.Show(i, places.Span.Slice(at, counts.Span[i]), FirstLast(i));
                }

                batch.Attend(layer, queries, part, window);
                merged.Add(pages.Count > 0 ? 1 : -later);
                if (pages.Count == 0)
                {
                    break;
                }

                later++;
                all += pages.Count;
            }
        }

        Take(window, 0, most, pages, counts.Span);
        missing += AttendTo(pages, counts.Span, batch, queries, part, window);
        merged.Add(1);
        WriteTo(output, merged, batch);
        cache.Offload.Room.Count(missing, all + pages.Count - missing, 0);
    }

    // Outputs are merged in host memory, wherever they go.
    private static void WriteTo(KvOutput output, MergedOutput merged, KernelBatch batch)
    {
        if (!output.IsOnDevice)
        {
            merged.WriteTo(output);
            return;
        }

        using var elements = new Pooled<byte>(merged.Output.Length * output.ElementBytes);
        using var sums = new Pooled<float>(output.HasLogSumExp ? merged.LogSumExp.Length : 0);
        merged.WriteTo(KvOutput.FromHost(elements.Span, output.Type, sums.Span));
        batch.Write(output, elements.Span, sums.Span);
    }

    // Brings pages, of each row so many, and attends to them and to everything resident. Returns how many were not there.
    private long AttendTo(List<HostPage> pages, ReadOnlySpan<int> counts, KernelBatch batch, KvTensor queries, KvOutput output, int window)
    {
        using var places = new Pooled<StagedPage>(pages.Count);
        long missing = Bring(cache.Offload!.Stage, pages, places.Span);
        int listed = 0;
        try
        {
            for (int at = 0; listed < Rows; at += counts[listed], listed++)
            {
                StagedRow.List(cache.Tier, TableOf(listed), RowOf(listed), places.Span.Slice(at, counts[listed]));
            }

            batch.Attend(layer, queries, output, window);
        }
        finally
        {
            for (int i = 0, at = 0; i < listed; at += counts[i], i++)
            {
                StagedRow.Unlist(cache.Tier, TableOf(i), RowOf(i), places.Span.Slice(at, counts[i]));
            }
        }

        return missing;
    }

    // Begins an attention, brings its pages to the device, and says where they lie. Returns how many were not there.
    private static long Bring(PageStage stage, List<HostPage> pages, Span<StagedPage> places)
    {
        using var slots = new Pooled<int>(pages.Count);
        stage.Begin();
        int missing = stage.Bring(CollectionsMarshal.AsSpan(pages), slots.Span);
        for (int i = 0; i < pages.Count; i++)
        {
            places[i] = new StagedPage(pages[i].Page, slots.Span[i], pages[i].Class);
        }

        return missing;
    }

    // So many pages of each row from one of them on, row by row.
    private void Take(int window, int first, int most, List<HostPage> pages, Span<int> counts)
    {
        pages.Clear();
        for (int i = 0; i < Rows; i++)
        {
            ReadOnlySpan<HostPage> own = Seen(i, window);
            own = own[Math.Min(first, own.Length)..Math.Min(first + most, own.Length)];
            pages.AddRange(own);
            counts[i] = own.Length;
        }
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

    // The pages of each row that agree best with the queries, at most so many. Returns how many are left out.
    private long Choose(KernelBatch batch, KvTensor queries, int window, int most, List<HostPage> pages, Span<int> counts)
    {
        using var scores = new Pooled<float>(ToScore(window, most));
        if (scores.Length > 0 && batch.Sketches is { } sketches)
        {
            Score(sketches, queries, window, most, scores.Span);
        }
        else if (scores.Length > 0)
        {
            Score(batch, queries, window, most, scores.Span);
        }

        using var chosen = new Pooled<int>(most);
        (long leftOut, int scored) = (0, 0);
        for (int i = 0; i < Rows; i++)
        {
            ReadOnlySpan<HostPage> candidates = Seen(i, window);
            counts[i] = Math.Min(most, candidates.Length);
            leftOut += candidates.Length - counts[i];
            if (counts[i] == candidates.Length)
            {
                pages.AddRange(candidates);
                continue;
            }

            Span<int> own = chosen.Span[..most];
            Offloading.Best(scores.Span.Slice(scored, candidates.Length), own);
            scored += candidates.Length;
            foreach (int page in own)
            {
                pages.Add(candidates[page]);
            }

            _sequences[i / cache.Geometry.KvHeads].Away!.Chosen[RowOf(i)] = [.. pages[^most..]];
        }

        return leftOut;
    }

    // Pages of the rows that have more than so many.
    private int ToScore(int window, int most)
    {
        int all = 0;
        for (int i = 0; i < Rows; i++)
        {
            int own = Seen(i, window).Length;
            all = checked(all + (own > most ? own : 0));
        }

        return all;
    }

    // How well the pages of the rows that have more than so many agree with the queries, row by row: in host memory.
    private void Score(KernelBatch batch, KvTensor queries, int window, int most, Span<float> scores)
    {
        // Without such a device the queries are needed here.
        using var read = new Pooled<byte>(queries.IsOnDevice ? checked((int)(queries.Length * queries.ElementBytes)) : 0);
        if (queries.IsOnDevice)
        {
            batch.ReadBack(queries, read.Span);
            queries = queries.InHost(read.Span);
        }

        Offloading offload = cache.Offload!;
        for (int i = 0; i < Rows; i++)
        {
            (int sequence, int head) = Math.DivRem(i, cache.Geometry.KvHeads);
            ReadOnlySpan<HostPage> candidates = Seen(i, window);
            if (candidates.Length > most)
            {
                offload.Queries.Take(queries, _parts[sequence].FirstToken, _parts[sequence].Tokens, head);
                offload.Score(candidates, scores);
                scores = scores[candidates.Length..];
            }
        }
    }

    private void Score(SketchScorer sketches, KvTensor queries, int window, int most, Span<float> scores)
    {
        SketchScores pages = cache.Offload!.Sketches;
        for (int i = 0; i < Rows; i++)
        {
            ReadOnlySpan<HostPage> candidates = Seen(i, window);
            foreach (HostPage page in candidates.Length > most ? candidates : [])
            {
                pages.Add(page, i / cache.Geometry.KvHeads, i % cache.Geometry.KvHeads);
            }
        }

        pages.Score(sketches, layer, queries, scores);
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

    // Rows of the layer are numbered sequence by sequence, head by head.
    private PageTable TableOf(int place) => _sequences[place / cache.Geometry.KvHeads].Table;

    private int RowOf(int place) => (layer * cache.Geometry.KvHeads) + (place % cache.Geometry.KvHeads);
}
