using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>The trust that the adaptive policy learns from one sequence.</summary>
public sealed class GhostTests
{
    private const int Count = 12;
    private const int Samples = 10;

    private static readonly RankedPolicy Low = new OraclePolicy((_, page) => -page);
    private static readonly RankedPolicy High = new OraclePolicy((_, page) => page);

    [Fact]
    public void Trust_moves_to_the_expert_that_is_right_and_back()
    {
        var policy = new AdaptivePolicy(Low, High);
        var state = (GhostExperts)policy.CreateState(TestPages.OneLayer(2));
        TestPages pages = TestPages.Full(2, Count);
        pages.Mass = new float[2 * Count];
        float before = state.Weights[1];

        // Attention falls on the high pages of row 0, on the low ones of row 1; then they change.
        Run(policy, state, pages, 8, highRow: 0);
        Assert.True(state.Weights[1] > 0.9f && state.Weights[1] > before, $"{state.Weights[1]}");
        Assert.True(state.Weights[3] < 0.1f);
        Assert.Equal([0, 1, 2, 3, 4, 5, 18, 19, 20, 21, 22, 23], pages.Dropped(policy, 1200, state));
        Run(policy, state, pages, 12, highRow: 1);
        Assert.True(state.Weights[1] < 0.5f && state.Weights[3] > 0.5f, $"{state.Weights[1]} {state.Weights[3]}");
        Assert.Equal(1, state.Weights[0] + state.Weights[1], 1e-5);
    }

    [Fact]
    public void Nothing_is_learned_twice_from_the_same_steps()
    {
        var policy = new AdaptivePolicy(Low, High);
        var state = (GhostExperts)policy.CreateState(TestPages.OneLayer(2));
        TestPages pages = TestPages.Full(2, Count);
        pages.Mass = new float[2 * Count];
        Run(policy, state, pages, 2, highRow: 0);
        float[] weights = state.Weights.ToArray();
        pages.Plan(policy, 0, state);
        Assert.Equal(weights, state.Weights.ToArray());
    }

    [Fact]
    public void Experts_share_the_masses_of_a_row_whatever_their_scores_are()
    {
        TestPages pages = TestPages.Full(1, 4);
        (pages.Mass, pages.Fixed) = ([4, 1, 2, 9], [false, false, false, true]);
        RankedPolicy undecided = new OraclePolicy((_, _) => 1000);
        using var opinions = new Opinions(pages.View, [High, undecided]);
        var shares = new float[4];
        opinions.Estimate([1f, 0f], 10, shares);
        Assert.Equal([0.1f, 0.2f, 0.4f, 0f], shares);
        opinions.Estimate([0f, 1f], 7, shares);
        Assert.All(shares[..3], x => Assert.Equal(1 / 3f, x, 1e-6f));
        opinions.Estimate([0.5f, 0.5f], 1, shares);
        Assert.Equal(7, shares.Sum(), 1e-5f);
    }

    [Fact]
    public void What_is_lost_fades_as_old_pages_do()
    {
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0));
        TestPages pages = TestPages.Full(1, 4);
        (pages.Samples, pages.Mass) = (1, [0.4f, 0.3f, 0.2f, 0.1f]);
        var state = (GhostExperts)policy.CreateState(pages.Geometry);
        Assert.Equal([3], pages.Dropped(policy, 100, state));
        Assert.Equal(0.1f, state.Lost[0], 1e-6f);
        var later = new TestPages(pages.Geometry, [0, 1, 2]) { Samples = 31, Mass = [0.2f, 0.15f, 0.1f], Length = 200 };
        later.Plan(policy, 0, state);
        Assert.Equal(0.05f, state.Lost[0], 1e-6f);
    }

    [Fact]
    public void Plans_allocate_nothing_once_warm()
    {
        TestPages pages = RandomPages.Make(3).Pages;
        var plan = new KvTransition[pages.Index.Length];
        pages.KeyMean = new float[plan.Length * 8];
        foreach (string name in KvPolicies.Names.Except(["none", "expected-attention"]))
        {
            Assert.True(KvPolicies.TryParse(name, out KvPolicy? policy));
            object? state = policy!.CreateState(pages.Geometry);
            for (int i = 0; i < 40; i++)
            {
                policy.Plan(pages.View, 500, plan, state);
            }

            Assert.Equal((name, 0), (name, Allocations.Of(() => policy.Plan(pages.View, 500, plan, state))));
        }
    }

    private static void Run(AdaptivePolicy policy, GhostExperts state, TestPages pages, int plans, int highRow)
    {
        for (int i = 0; i < plans; i++)
        {
            pages.Samples += Samples;
            for (int page = 0; page < 2 * Count; page++)
            {
                bool high = page % Count >= Count / 2;
                float share = high == (page / Count == highRow) ? 2f / Count : 0;
                float faded = MathF.Pow(policy.Decay, Samples);
                pages.Mass![page] = (faded * pages.Mass[page]) + (share * (1 - faded) / (1 - policy.Decay));
            }

            pages.Plan(policy, 0, state);
        }
    }
}
