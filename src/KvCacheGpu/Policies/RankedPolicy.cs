namespace KvCacheGpu;

/// <summary>
/// A policy that gives pages a score. Its plan drops pages evenly: every row keeps the same number of pages, give or take one, namely those of
/// the highest scores; of pages with equal scores it keeps those of the lower position.
/// </summary>
/// <remarks>Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.</remarks>
public abstract class RankedPolicy : KvPolicy
{
    private protected virtual float RowFloor => 0;

    /// <summary>Scores every page; the pages of the highest scores are kept. Scores are compared within a row.</summary>
    /// <param name="pages">The sequence's pages.</param>
    /// <param name="scores">[pages] overwritten. A score that is not a number counts as the lowest.</param>
    /// <exception cref="KvUnsupportedException">A statistic of <see cref="KvPolicy.Needs"/> is missing.</exception>
    public abstract void Score(in KvPages pages, Span<float> scores);

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        plan[..pages.Count].Clear();
        PlanRest(pages, bytesToFree, plan);
    }

    private protected virtual int RowsPerGroup(in KvPages pages) => 1;

    // Pages that the plan drops already stay dropped.
    private protected void PlanRest(in KvPages pages, long bytesToFree, Span<KvTransition> plan)
    {
        if (bytesToFree <= 0 || pages.Count == 0)
        {
            return;
        }

        using var scores = new Pooled<float>(pages.Count);
        Score(pages, scores.Span);
        using var floors = new Floors(pages, bytesToFree, RowFloor, SegmentFloor);
        EvenPlan.Fill(pages, scores.Span, RowsPerGroup(pages), floors, bytesToFree, plan);
    }
}
