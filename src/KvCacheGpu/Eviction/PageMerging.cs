using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Eviction by tokens at the price of pages: pages that a plan drops and one beside them that it keeps become one new page of their best
/// tokens. What the others were worth most is what goes; positions stay, for keys are turned already.
/// </summary>
/// <remarks>
/// A token's worth is the logarithm of Expected Attention's (<see cref="ExpectedAttentionPolicy"/>), its expected logit + ln |v|, over the
/// queries to come. Pages of one class only, none of which was encoded so often that once more would be too much: so each token is encoded anew
/// once at most. Full pages alone leave kernels nothing to mask.
/// </remarks>
internal sealed class PageMerging(CacheState cache, PlanMemory memory)
{
    // Pages that become one, at most.
    private const int MostPages = 8;

    private readonly int _pageTokens = cache.Geometry.PageTokens;

    /// <summary>Merges pages that a plan drops from a row, as far as that can be. The others are still to be dropped.</summary>
    /// <param name="sequence">Held by the caller.</param>
    /// <param name="row">Row.</param>
    /// <param name="drops">One for each of the row's first entries; a page that took in others is no longer flagged, those that went into it are.</param>
    /// <param name="isNeighbour">True for an entry that stays and may be merged into.</param>
    /// <param name="live">[words of the row] receives the tokens that live on in merged pages.</param>
    public void Merge(SequenceState sequence, int row, Span<bool> drops, Func<SequenceState, int, int, bool> isNeighbour, Span<int> live)
    {
        int merged = -1;
        bool mayMerge = !cache.HasWindow(row / cache.Geometry.KvHeads);
        for (int start = 0, end; mayMerge && start < drops.Length; start = Math.Max(end, start + 1))
        {
            end = start;
            while (end < drops.Length && drops[end])
            {
                end++;
            }

            // The page after them rather than the one before, which may be merged already.
            if (end > start && end < drops.Length && isNeighbour(sequence, row, end))
            {
                if (TryMerge(sequence, row, drops, Math.Max(start, end - MostPages + 1), end, live))
                {
                    merged = end++;
                }
            }
            else if (end > start && start - 1 > merged && isNeighbour(sequence, row, start - 1))
            {
                // Where it fails, the pages are dropped as the plan says.
                bool isMerged = TryMerge(sequence, row, drops, start - 1, Math.Min(end - 1, start + MostPages - 2), live);
                merged = isMerged ? Math.Min(end - 1, start + MostPages - 2) : merged;
            }
        }
    }

    private bool TryMerge(SequenceState sequence, int row, Span<bool> drops, int first, int last, Span<int> live)
    {
        PageTable table = sequence.Table;
        if (IsAcrossSegments(sequence, row, first, last))
        {
            return false;
        }

        int layer = row / cache.Geometry.KvHeads;

        // A page that was demoted is of another size than the open one that it is written from.
        bool inPlace = cache.Classes.SealsInPlace(layer) && table.PageClass(row, last) == cache.Classes.SealedIn(layer);
        Span<int> slots = stackalloc int[2];
        Encodings encodings;
        using (cache.Pool.Gate.Enter())
        {
            SlotCounts need = SlotCounts.Of(KernelShape.Open, 1);
            need[table.PageClass(row, last)] += inPlace ? 0 : 1;
            if (EncodingsOfMerged(table, row, first, last) is not { } allowed || !cache.Room.TryTake(need, slots[..need.Total]))
            {
                return false;
            }

            encodings = allowed;
        }

        int tokens = (last - first + 1) * _pageTokens;
        int slot = slots[inPlace ? 0 : 1];
        using var positions = new Pooled<int>(tokens);
        using var best = new Pooled<int>(_pageTokens);
        bool written = false;
        try
        {
            if (Write(table, row, first, last, slots[0], slot, positions.Span, best.Span) == PageOutcome.Written)
            {
                AddUpScores(table, row, first, last);
                written = true;
            }
        }
        finally
        {
            using (cache.Pool.Gate.Enter())
            {
                if (!inPlace || !written)
                {
                    cache.Pool.Release(slots[0]);
                }

                if (!inPlace && !written)
                {
                    cache.Pool.Release(slots[1]);
                }
            }
        }

        if (!written)
        {
            return false;
        }

        using (cache.Pool.Gate.Enter())
        {
            sequence.Chain?.Drop(table.PageIndex(row, last));
            table.SwapMerged(row, last, slot, encodings);
        }

        drops[first..last].Fill(true);
        drops[last] = false;
        foreach (int token in best.Span)
        {
            table.Dead!.Set(live, positions.Span[token]);
        }

        return true;
    }

    // How often a page merged of some entries would have been encoded with loss; null if they may not be merged: of other classes, kept open, or
    // encoded too often.
    private Encodings? EncodingsOfMerged(PageTable table, int row, int firstEntry, int lastEntry)
    {
        int pageClass = table.PageClass(row, lastEntry);
        (int key, int value) = (0, 0);
        for (int entry = firstEntry; entry <= lastEntry; entry++)
        {
            Encodings before = cache.Pool.EncodingsOf(table.Slot(row, entry));
            (key, value) = (Math.Max(key, before.Key), Math.Max(value, before.Value));
            if (table.PageClass(row, entry) != pageClass || pageClass == KernelShape.Open)
            {
                return null;
            }
        }

        IReadOnlyList<PageLayout> classes = cache.Classes.Shape.Classes;
        Encodings after = new Encodings(key, value).After(classes[KernelShape.Open], classes[pageClass]);
        return after.Key <= Ladder.MostEncodings && after.Value <= Ladder.MostEncodings ? after : null;
    }

    private bool IsAcrossSegments(SequenceState sequence, int row, int first, int last)
    {
        int from = sequence.Table.FirstPageOf(row, first) * _pageTokens;
        int to = (sequence.Table.PageIndex(row, last) + 1) * _pageTokens;
        foreach (int start in sequence.SegmentStarts)
        {
            if (start > from && start < to)
            {
                return true;
            }
        }

        return false;
    }

    private PageOutcome Write(PageTable table, int row, int first, int last, int open, int slot, Span<int> positions, Span<int> best)
    {
        KvGeometry geometry = cache.Geometry;
        int tokens = 0;
        for (int entry = first; entry <= last; entry++)
        {
            tokens += table.PositionsOf(row, entry, positions[tokens..]);
        }

        PageLayout layout = cache.Tier.Shape.Classes[KernelShape.Open];
        using var keys = new Pooled<float>(tokens * geometry.KeyWidth);
        using var values = new Pooled<float>(tokens * geometry.ValueWidth);
        using var words = new Pooled<int>(layout.Units * PageLayout.UnitWords);
        cache.Reader.Decode(table, row, first, last, _pageTokens, keys.Span, values.Span);
        Choose(row, keys.Span, values.Span, tokens, best);
        words.Span.Clear();
        for (int t = 0; t < best.Length; t++)
        {
            OpenPage.Put(
                layout, t, keys.Span.Slice(best[t] * geometry.KeyWidth, geometry.KeyWidth),
                values.Span.Slice(best[t] * geometry.ValueWidth, geometry.ValueWidth), words.Span, wasDecoded: true);
        }

        return cache.Writer.Merge(table, row, last, words.Span, open, slot);
    }

    // The best of them, ascending; of equal ones the lower positions.
    private void Choose(int row, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, int tokens, Span<int> best)
    {
        KvGeometry geometry = cache.Geometry;
        ReadOnlySpan<float> mean = memory.FutureMean.Slice(row * geometry.KeyWidth, geometry.KeyWidth);
        ReadOnlySpan<float> variance = memory.FutureVariance.Slice(row * geometry.KeyWidth, geometry.KeyWidth);
        using var order = new Pooled<ulong>(tokens);
        for (int t = 0; t < tokens; t++)
        {
            float logit = ExpectedAttentionPolicy.Logit(geometry, keys.Slice(t * geometry.KeyWidth, geometry.KeyWidth), mean, variance);
            float square = Vectors.Square(values.Slice(t * geometry.ValueWidth, geometry.ValueWidth));
            order.Span[t] = Order.Key(logit + (0.5f * MathF.Log(square)), t);
        }

        order.Span.Sort();
        for (int i = 0; i < best.Length; i++)
        {
            best[i] = Order.Page(order.Span[tokens - best.Length + i]);
        }

        best.Sort();
    }

    // Its tokens are those that got most: the page is known by what all of them got.
    private void AddUpScores(PageTable table, int row, int first, int last)
    {
        if (!cache.Needs.HaveScores())
        {
            return;
        }

        int start = memory.RowStarts[row] + first;
        int count = last - first + 1;
        Span<int> words = stackalloc int[TableMap.ScoreKeySquare];
        for (int word = 0; word < words.Length; word++)
        {
            if (word is TableMap.ScoreLastUsed or TableMap.ScoreUses or TableMap.ScorePeak)
            {
                // None is negative: bits of floats ascend as the numbers do.
                int most = 0;
                foreach (int bits in memory.Score(word).Slice(start, count))
                {
                    most = Math.Max(most, bits);
                }

                words[word] = most;
            }
            else
            {
                float sum = 0;
                foreach (float score in memory.Scores(word).Slice(start, count))
                {
                    sum += score;
                }

                words[word] = BitConverter.SingleToInt32Bits(sum);
            }
        }

        using (cache.DeviceGate.Enter())
        {
            cache.Tier.Load(table.ScoreWord(row, table.PageIndex(row, last)), words);
        }
    }
}
