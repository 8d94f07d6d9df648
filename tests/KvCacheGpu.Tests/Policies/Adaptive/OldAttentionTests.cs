namespace KvCacheGpu.Tests;

/// <summary>The attention that rows still give to old pages, and its effect on plans.</summary>
public sealed class OldAttentionTests
{
    private const int Count = 8;

    [Fact]
    public void The_row_that_looks_back_keeps_its_pages()
    {
        // Both rows have gathered the same; row 1 still looks at old pages, row 0 at the recent one alone.
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, SegmentFloor = 0 };
        TestPages pages = Pages(last: page => page < Count ? 0 : 0.1f);
        var state = (GhostExperts)policy.CreateState(pages.Geometry);
        int[] dropped = pages.Dropped(policy, 600, state);
        Assert.Equal(6, dropped.Length);
        Assert.All(dropped, page => Assert.True(page < Count, $"{page}"));
        Assert.Equal(0.7, state.Old.Reach(1), 1e-6);
    }

    [Fact]
    public void Pages_shrink_before_any_of_their_row_goes()
    {
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, SegmentFloor = 0 };
        TestPages pages = Pages(last: _ => 0.1f);
        pages.Ladder = [new(100, 0, 0, 0b10), new(30, 0.1f, 0.1f, 0)];
        KvTransition[] plan = pages.Plan(policy, 14 * 70, policy.CreateState(pages.Geometry));
        Assert.DoesNotContain(KvTransition.Drop, plan);
        Assert.Equal(14, plan.Count(t => t == KvTransition.DemoteTo(1)));
    }

    [Fact]
    public void Expected_shares_are_what_the_row_still_looks_back_at()
    {
        TestPages pages = Pages(last: page => page < Count ? 0.01f : 0.1f);
        var old = new OldAttention(2);
        float[] shares = [.. Enumerable.Repeat(0.1f, 2 * Count)];
        old.Temper(pages.View, shares);
        Assert.All(shares, x => Assert.Equal(0.1f, x));
        old.Observe(pages.View);
        old.Temper(pages.View, shares);

        // Page 7 of each row is fixed: of what it receives nothing counts.
        Assert.Equal(7 * 0.01f, shares[..Count].Sum(), 1e-5f);
        Assert.Equal(7 * 0.1f, shares[Count..].Sum(), 1e-5f);
    }

    [Fact]
    public void Attention_is_told_apart_by_how_it_is_spread_over_pages_and_time()
    {
        // Row 0 looks at all its pages alike, row 1 at one after the other, row 2 at all of them every second time.
        var old = new OldAttention(3);
        TestPages pages = TestPages.Full(3, Count);
        for (int step = 0; step < 2 * Count; step++)
        {
            pages.LastMass = [.. Enumerable.Range(0, 3 * Count).Select(page => (page / Count) switch
            {
                0 => 0.05f,
                1 => page % Count == step % Count ? 0.4f : 0,
                _ => step % 2 == 0 ? 0.1f : 0,
            })];
            old.Observe(pages.View);
        }

        Assert.Equal([0.4, 0.4, 0.4], Enumerable.Range(0, 3).Select(old.Reach), Near);
        Assert.Equal([0.05, 0.4, 0.1], Enumerable.Range(0, 3).Select(old.Concentration), Near);
        Assert.Equal([7 / 8.0, 0, 14 / 8.0], Enumerable.Range(0, 3).Select(old.Burst), Near);
    }

    [Fact]
    public void Spread_attention_is_not_lost_in_one_row_alone()
    {
        // Both rows give the same to each page; row 0 to all at once, row 1 to one at a time.
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, SegmentFloor = 0 };
        TestPages pages = Pages(_ => 0.1f);
        var state = (GhostExperts)policy.CreateState(pages.Geometry);
        for (int step = 0; step < 7; step++)
        {
            pages.LastMass = [.. Enumerable.Range(0, 2 * Count).Select(page => page < Count ? 0.1f : page % Count == step ? 0.7f : 0)];
            pages.Samples++;
            pages.Plan(policy, 0, state);
        }

        // The first pages cost least where attention is spread; the more of them are gone, the more the next one costs.
        Assert.All(pages.Dropped(policy, 300, state), page => Assert.True(page < Count, $"{page}"));
        Assert.True(state.Lost[0] > 0);
        Assert.Equal(0, state.Lost[1]);
        double before = Price(pages, state, lost: 0);
        Assert.Equal(2 * 0.5 * 0.1 * state.Old.Burst(0), Price(pages, state, lost: 0.5f) - before, 1e-6);
    }

    private static double Price(TestPages pages, GhostExperts state, float lost)
    {
        using var prices = new Prices(pages.View, [.. Enumerable.Repeat(0.1f, 2 * Count)], state.Old, [lost, 0], wholeMass: 50);
        return prices.OfDrop(0, 0);
    }

    private static bool Near(double expected, double actual) => Math.Abs(expected - actual) < 1e-6;

    private static TestPages Pages(Func<int, float> last)
    {
        TestPages pages = TestPages.Full(2, Count);
        (pages.Samples, pages.Step) = (50, 50);
        pages.Mass = [.. Enumerable.Repeat(0.5f, 2 * Count)];
        pages.LastMass = [.. Enumerable.Range(0, 2 * Count).Select(last)];
        pages.Fixed = [.. Enumerable.Range(0, 2 * Count).Select(page => page % Count == Count - 1)];
        return pages;
    }
}
