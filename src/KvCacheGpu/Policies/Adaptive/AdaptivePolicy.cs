namespace KvCacheGpu;

/// <summary>
/// Frees bytes where they cost least: the price of every drop and every demotion is what it is expected to take from the attention of its row
/// (docs/eviction.md), and the cheapest per byte is taken first, over all layers and heads.
/// </summary>
/// <remarks>
/// The policy is our own; its parts are Ada-KV's floor per head, experts' advice by exponentiated gradient, and the ghost entries of the literature on caches.
/// Simple policies (experts) together estimate how much attention a page is going to get. In each row an expert is trusted as far as it has been
/// right (<see cref="CreateState"/>), all alike at first, and the estimate is scaled to the attention that the row still gives to old pages. How that attention
/// is spread is measured too: it says whether many pages together cost more than one by one. If floors leave too little to free, they yield: the budget holds.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class AdaptivePolicy : KvPolicy
{
    private readonly RankedPolicy[] _experts;

    /// <summary>Takes as experts lru, h2o, tova, the position (as window does) and random.</summary>
    public AdaptivePolicy()
        : this(new LruPolicy(), new H2oPolicy(), new TovaPolicy(), new WindowPolicy(1), new RandomPolicy())
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

    /// <summary>How fast trust follows losses (eta of the exponentiated gradient), at least 0. The default value is 1.</summary>
    public float LearningRate
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 1;

    /// <summary>Part of the trust that each update spreads over all experts alike, so that any expert can come back, 0..1. The default value is 0.02.</summary>
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

    /// <summary>
    /// Price of a page that goes to host memory (<see cref="KvCacheOptions.Offload"/>), as a part of the price of losing it, 0..1. At 1 pages are demoted as if there were no host memory, and what is fetched later is
    /// small; near 0 nearly nothing is demoted while host memory has room, and whole pages are fetched. The default value is 0.02.
    /// </summary>
    public float OffloadPrice
    {
        get;
        init => field = Share(value);
    } = 0.02f;

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
        even.Span.Fill(1f / _experts.Length);
        nothing.Span.Clear();
        double whole = OutputError.WholeMass(pages, Decay);
        opinions.Estimate(ghosts is null ? even.Span : ghosts.Weights, whole, shares.Span);
        ghosts?.Old.Temper(pages, shares.Span);
        using var floors = new Floors(pages, bytesToFree, RowFloor, SegmentFloor);
        Span<float> lost = ghosts is null ? nothing.Span : ghosts.Lost;
        using var prices = new Prices(pages, shares.Span, ghosts?.Old, lost, whole, OffloadPrice);
        using var greedy = new GreedyPlan(pages, shares.Span, prices, floors, lost, plan);
        greedy.Fill(bytesToFree);
    }
}
