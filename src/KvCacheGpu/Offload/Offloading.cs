using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The host memory below one cache's device, and the slots that pages come back to. One per cache with <see cref="KvCacheOptions.Offload"/>.</summary>
/// <param name="options">Its options.</param>
/// <param name="tier">The cache's tier.</param>
/// <param name="room">The host memory.</param>
/// <param name="stage">The slots.</param>
/// <param name="stageBytes">Bytes of the arena that they take.</param>
/// <param name="fetchesAhead">True if the next layer's pages are brought while the host computes.</param>
internal sealed class Offloading(KvOffload options, KernelTier tier, HostRoom room, PageStage stage, long stageBytes, bool fetchesAhead)
{
    private long _late;

    /// <summary>The host memory.</summary>
    public HostRoom Room => room;

    /// <summary>The slots.</summary>
    public PageStage Stage => stage;

    /// <summary>Brings pages ahead; null if none are.</summary>
    public PagesAhead? Ahead { get; } = fetchesAhead ? new PagesAhead(stage) : null;

    /// <summary>Bytes of the arena that the slots take.</summary>
    public long StageBytes => stageBytes;

    /// <summary>Pages that the device scores. Callers are inside of the stage's gate.</summary>
    public SketchScores Sketches { get; } = new();

    /// <summary>Queries of one row. Callers are inside of the stage's gate.</summary>
    public RowQueries Queries { get; } = new(tier.Shape.Geometry, tier.Shape.RotationSeed, tier.Transfers.Sketches);

    /// <summary>What has become of pages so far.</summary>
    public KvOffloadCounts Counts
    {
        get
        {
            (long ahead, long used, long wasted) = stage.Ahead;
            return Room.Counts with { Prefetched = ahead, PrefetchedUsed = used, PrefetchedWasted = wasted, Late = Interlocked.Read(ref _late) };
        }
    }

    /// <summary>An attention begins: it brings what has not come by now.</summary>
    public void EndAhead()
    {
        if (Ahead?.Cancel() == true)
        {
            Interlocked.Increment(ref _late);
        }
    }

    /// <summary>Pages of a row that an attention of so many tokens a sequence is to read, if there are places.</summary>
    public int Wanted(int tokens) => (int)Math.Min((options.SelectedPages * (long)tokens) ?? int.MaxValue, int.MaxValue);

    /// <summary>Pages of a row that one attention reads: the most of which all rows that have so many find a place.</summary>
    /// <param name="candidates">Pages of each row in host memory that its queries see.</param>
    /// <param name="wanted"><see cref="Wanted"/>.</param>
    public int PagesOfRow(ReadOnlySpan<int> candidates, int wanted)
    {
        int most = wanted;
        int least = 0;
        int enough = 0;
        foreach (int row in candidates)
        {
            enough = Math.Max(enough, Math.Min(row, most));
        }

        while (least < enough)
        {
            int pages = least + ((enough - least + 1) / 2);
            long all = 0;
            foreach (int row in candidates)
            {
                all += Math.Min(row, pages);
            }

            (least, enough) = all <= Stage.Places ? (pages, enough) : (least, pages - 1);
        }

        return least;
    }

    /// <summary>Scores pages of a row by the queries that were taken, in host memory.</summary>
    /// <param name="candidates">The row's pages in host memory that its queries see.</param>
    /// <param name="scores">Receives the score of each.</param>
    public void Score(ReadOnlySpan<HostPage> candidates, Span<float> scores)
    {
        for (int i = 0; i < candidates.Length; i++)
        {
            scores[i] = Queries.Score(candidates[i]);
        }
    }

    /// <summary>Chooses the best, ascending.</summary>
    /// <param name="scores">The score of each page; overwritten.</param>
    /// <param name="chosen">Receives their places among the pages: fewer than there are.</param>
    public static void Best(Span<float> scores, Span<int> chosen)
    {
        using var order = new Pooled<int>(scores.Length);
        for (int i = 0; i < scores.Length; i++)
        {
            // Ascending, so that the best come first; of what is no number nothing is known.
            (scores[i], order.Span[i]) = (float.IsNaN(scores[i]) ? float.PositiveInfinity : -scores[i], i);
        }

        scores.Sort(order.Span);
        order.Span[..chosen.Length].CopyTo(chosen);
        chosen.Sort();
    }
}
