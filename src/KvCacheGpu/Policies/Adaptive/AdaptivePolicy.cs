namespace KvCacheGpu;

/// <summary>
/// Frees bytes where they cost least error: the price of every drop and every demotion is the squared output error that it is expected to cause,
/// and the cheapest per byte is taken first, over all layers and heads.
/// </summary>
/// <remarks>
/// The policy is our own; its parts are DropKV's error of a drop, Ada-KV's floor per head, experts' advice by exponentiated gradient, and the ghost
/// entries of the literature on caches.
/// Several scorers (experts) together estimate how much attention a page is going to get. In each row an expert is trusted as far as it has been
/// right (<see cref="CreateState"/>), and the estimate is scaled to the attention that the row still gives to old pages. Any page may get attention
/// against expectation, more likely so the more its row looks back: therefore keeping a page in few bits can be worth more than dropping it.
/// A row that is expected to have lost more than <see cref="Guard"/> drops no more while other rows can. If floors and guard leave too little to
/// free, the guard yields first, then the floors: the budget holds.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class AdaptivePolicy : KvPolicy
{
    private readonly RankedPolicy[] _experts;

    /// <summary>Takes as experts h2o, tova, lru, lfu, the position (as window does) and snapkv.</summary>
    public AdaptivePolicy()
        : this(new H2oPolicy(), new TovaPolicy(), new LruPolicy(), new LfuPolicy(), new WindowPolicy(1), new SnapKvPolicy())
    {
    }

    /// <summary>Sets the experts. The engine gathers the statistics that they need, all with <see cref="Decay"/>.</summary>
    /// <param name="experts">1..15 policies that rank.</param>
    public AdaptivePolicy(params RankedPolicy[] experts)
    {
        ArgumentNullException.ThrowIfNull(experts);
        if (experts.Length < 1 || experts.Length > GhostExperts.MostExperts || Array.IndexOf(experts, null) >= 0)
        {
            throw new ArgumentException($"expected 1..{GhostExperts.MostExperts} policies, got {experts.Length}", nameof(experts));
        }

        _experts = [.. experts];
        Needs = _experts.Aggregate(KvStatistics.Mass | KvStatistics.Queries, (needs, expert) => needs | expert.Needs);
    }

    /// <inheritdoc/>
    public override KvStatistics Needs { get; }

    /// <summary>0.98, like that of <see cref="H2oPolicy"/>.</summary>
    public override float Decay => 0.98f;

    /// <summary>Part of an even share of the pages that every row keeps while other rows have pages to give, 0..1. The default value is 0.1.</summary>
    public float RowFloor
    {
        get;
        init => field = Share(value);
    } = 0.1f;

    /// <summary>Expected lost share of attention beyond which a row drops no more while other rows can, 0..1. The default value is 0.95; 1 means no guard.</summary>
    /// <remarks>A head that spreads its attention loses a large share at little error: a low guard would make the others pay for it.</remarks>
    public float Guard
    {
        get;
        init => field = Share(value);
    } = 0.95f;

    /// <summary>How fast trust follows losses (eta of the exponentiated gradient), at least 0. The default value is 2.</summary>
    public float LearningRate
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 2;

    /// <summary>Part of the trust that each update returns to its first distribution, so that any expert can come back, 0..1. The default value is 0.02.</summary>
    public float FixedShare
    {
        get;
        init => field = Share(value);
    } = 0.02f;

    /// <summary>Part of a row's pages that an expert names as its next victims, 0..1. The default value is 0.25.</summary>
    public float GhostShare
    {
        get;
        init => field = Share(value);
    } = 0.25f;

    /// <inheritdoc/>
    public override object CreateState(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        return new GhostExperts(geometry.Layers * geometry.KvHeads, _experts.Length);
    }

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        KvPages.Require(pages.Mass, pages.Count, "adaptive");
        var ghosts = state as GhostExperts;
        plan = plan[..pages.Count];
        plan.Clear();
        ghosts?.Observe(pages, Decay, LearningRate, FixedShare);
        if (pages.Count == 0 || (bytesToFree <= 0 && ghosts is null))
        {
            return;
        }

        using var opinions = new Opinions(pages, _experts);
        if (bytesToFree > 0)
        {
            Spend(pages, bytesToFree, opinions, plan, ghosts);
        }

        ghosts?.Haunt(pages, opinions, plan, GhostShare);
    }

    private void Spend(in KvPages pages, long bytesToFree, in Opinions opinions, Span<KvTransition> plan, GhostExperts? ghosts)
    {
        using var shares = new Pooled<float>(pages.Count);
        using var even = new Pooled<float>(ghosts is null ? pages.Rows * _experts.Length : 0);
        using var nothing = new Pooled<float>(ghosts is null ? pages.Rows : 0);
        for (int row = 0; row < pages.Rows && ghosts is null; row++)
        {
            GhostExperts.Believe(even.Span.Slice(row * _experts.Length, _experts.Length));
        }

        nothing.Span.Clear();
        opinions.Estimate(ghosts is null ? even.Span : ghosts.Weights, OutputError.WholeMass(pages, Decay), shares.Span);
        ghosts?.Surprises.Temper(pages, shares.Span);
        using var floors = new Floors(pages, bytesToFree, RowFloor, SegmentFloor);
        Span<float> lost = ghosts is null ? nothing.Span : ghosts.Lost;
        using var greedy = new GreedyPlan(pages, shares.Span, ghosts is null ? default : ghosts.Surprises.Squares, floors, lost, Guard, plan);
        greedy.Fill(bytesToFree);
    }
}
