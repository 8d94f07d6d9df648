using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Spends error where it buys most bytes: every drop and every demotion is priced by the squared output error it is expected to cause, and
/// the cheapest per byte is taken first, over all layers and heads.
/// </summary>
/// <remarks>
/// Ours; its parts: DropKV's error of a drop, Ada-KV's floor per head, experts' advice by exponentiated gradient, the cache literature's ghost entries.
/// How much attention a page is going to get is estimated by several scorers together, each trusted, row by row, as far as it has been right
/// (<see cref="CreateState"/>), and scaled to what the row still looks back at. Any page may be asked for against expectation, the likelier the more
/// its row looks back: that is what makes a page worth keeping in few bits before nothing is left of it. A row that is expected to have lost more than <see cref="Guard"/> drops no more while others can. Where floors and
/// guard leave too little to free, the guard yields first, then the floors: the budget holds.
/// </remarks>
public sealed class AdaptivePolicy : KvPolicy
{
    private readonly RankedPolicy[] _experts;

    /// <summary>Takes h2o, tova, lru, lfu, position (as window) and snapkv for experts.</summary>
    public AdaptivePolicy()
        : this(new H2oPolicy(), new TovaPolicy(), new LruPolicy(), new LfuPolicy(), new WindowPolicy(1), new SnapKvPolicy())
    {
    }

    /// <summary>Sets the experts, whose statistics the engine then gathers, all with <see cref="Decay"/>.</summary>
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

    /// <summary>As <see cref="H2oPolicy"/>'s: 0.98.</summary>
    public override float Decay => 0.98f;

    /// <summary>Part of its even share of pages that every row keeps while others can give, 0..1. The default value is 0.1.</summary>
    public float RowFloor
    {
        get;
        init => field = Share(value);
    } = 0.1f;

    /// <summary>Share of attention, expected lost, beyond which a row drops no more while others can, 0..1. The default value is 0.95; 1: no guard.</summary>
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

    /// <summary>Trust that all experts share evenly, so that any can come back, 0..1. The default value is 0.02.</summary>
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
