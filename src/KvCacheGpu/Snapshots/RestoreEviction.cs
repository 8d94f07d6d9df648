namespace KvCacheGpu;

/// <summary>
/// Lets the cache's policy drop pages of a snapshot that its budget does not hold, by the scores that were saved with them; where there is host memory for them, they go there. Pages are not
/// demoted on the way in, and live sequences give nothing.
/// </summary>
internal sealed class RestoreEviction(CacheState cache, Evictor? evictor)
{
    private const int MostRounds = 8;

    /// <summary>Entries dropped so far.</summary>
    public long Evicted { get; private set; }

    /// <summary>Counts them for the cache, once the restore has succeeded.</summary>
    /// <returns>Entries dropped.</returns>
    public long Count()
    {
        cache.Counts.CountEvicted(Evicted);
        return Evicted;
    }

    /// <summary>True if pages may go to host memory, but none may be lost.</summary>
    public bool KeepsAll { get; init; }

    /// <summary>The pages that go to host memory.</summary>
    public RestoreAway Away { get; } = new(cache);

    /// <summary>Drops what frees as many bytes as are missing, a little more from round to round.</summary>
    /// <param name="sequences">The sequences, held; their scores are restored.</param>
    /// <param name="plan">The plan that does not fit; its pages are as large as saved.</param>
    /// <param name="shortage">The amounts that are missing.</param>
    /// <param name="round">How often that was tried before.</param>
    /// <returns>The sequences with the pages that are left; null if there is no policy, or nothing more that it may drop.</returns>
    public SnapshotSequence[]? TryShrink(IReadOnlyList<SequenceState> sequences, RestorePlan plan, in KvShortage shortage, int round)
    {
        if (!MayShrink(plan, round))
        {
            return null;
        }

        int[][] bytes = FreedBy(plan);
        double missing = Wanted(shortage, round);
        double all = bytes.Sum(entries => entries.Sum(b => (double)b));
        bool[][] drops = [.. sequences.Select((sequence, i) =>
            evictor!.PlanRestored(sequence, plan.Sequences[i].RowStarts, plan.Sequences[i].PageIndexes, bytes[i], (long)Math.Ceiling(missing * bytes[i].Sum(b => (double)b) / Math.Max(all, 1))))];
        SnapshotSequence[] left = Without(plan, drops);
        bool isLess = Array.Exists(drops, own => own.Contains(true));
        return isLess && !(KeepsAll && Evicted > 0) ? left : null;
    }

    /// <summary>True if the policy may drop pages of a plan that does not fit. Policies that read keys would have to read the pages first.</summary>
    public bool MayShrink(RestorePlan plan, int round) =>
        evictor is not null && round < MostRounds && plan.SamePages && !cache.Needs.Has(KvStatistics.KeyMeans);

    /// <summary>Bytes to free for a shortage, a little more from round to round.</summary>
    public static double Wanted(in KvShortage shortage, int round) => shortage.Missing * (1 + (0.25 * round));

    /// <summary>The sequences of a plan without the entries that are flagged.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="drops">By sequence and entry.</param>
    public SnapshotSequence[] Without(RestorePlan plan, bool[][] drops) => [.. plan.Sequences.Select((sequence, i) =>
    {
        Evicted += Enumerable.Range(0, drops[i].Length).Count(entry => drops[i][entry] && !TrySend(plan, i, entry));
        return Without(sequence, drops[i]);
    })];

    /// <summary>The same without the entries of some saved pages, as far as those find room in host memory.</summary>
    public SnapshotSequence[] Without(RestorePlan plan, IReadOnlySet<int> ordinals) => [.. plan.Sequences.Select((sequence, i) =>
        Without(sequence, [.. Enumerable.Range(0, sequence.Pages.Length).Select(entry => ordinals.Contains(sequence.Saved.Ordinals.Span[entry]) && TrySend(plan, i, entry))]))];

    /// <summary>Bytes that dropping frees, by sequence and entry: a page that another entry lists, too, frees nothing.</summary>
    public int[][] FreedBy(RestorePlan plan)
    {
        int[] listed = new int[plan.Pages.Count];
        foreach (PlannedSequence sequence in plan.Sequences)
        {
            foreach (int page in sequence.Pages)
            {
                listed[page]++;
            }
        }

        return [.. plan.Sequences.Select(sequence => sequence.Pages
            .Select(page => listed[page] > 1 ? 0 : cache.Tier.Shape.Classes[plan.Pages[page].Class].Bytes).ToArray())];
    }

    // Scores stay whole: they are in the tables already, by page.
    private static SnapshotSequence Without(PlannedSequence sequence, bool[] drops)
    {
        SnapshotSequence saved = sequence.Saved;
        int[] starts = new int[sequence.RowStarts.Length];
        for (int row = 0; row < starts.Length - 1; row++)
        {
            (int first, int end) = (sequence.RowStarts[row], sequence.RowStarts[row + 1]);
            starts[row + 1] = starts[row] + drops.AsSpan(first, end - first).Count(false);
        }

        return saved with
        {
            RowStarts = starts,
            PageIndexes = Kept(saved.PageIndexes, drops),
            Ordinals = Kept(saved.Ordinals, drops),
        };
    }

    // Sends an entry to host memory; its row is the last that begins before it or with it.
    private bool TrySend(RestorePlan plan, int place, int entry)
    {
        PlannedSequence sequence = plan.Sequences[place];
        int row = sequence.RowStarts.AsSpan().BinarySearch(entry + 1);
        row = (row < 0 ? ~row : row) - 1;
        return Away.TryPlan(place, row, sequence.PageIndexes[entry], sequence.Saved.Ordinals.Span[entry], plan.Pages[sequence.Pages[entry]]);
    }

    private static int[] Kept(ReadOnlyMemory<int> entries, bool[] drops) => [.. entries.ToArray().Where((_, entry) => !drops[entry])];
}
