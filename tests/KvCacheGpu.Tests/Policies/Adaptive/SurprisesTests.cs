namespace KvCacheGpu.Tests;

/// <summary>The attention that rows still give to old pages, and its effect on plans.</summary>
public sealed class SurprisesTests
{
    private const int Count = 8;

    [Fact]
    public void The_row_that_looks_back_keeps_its_pages()
    {
        // Both rows have gathered the same; row 1 still looks at old pages, row 0 at the recent one alone.
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, Guard = 1, SegmentFloor = 0 };
        TestPages pages = Pages(last: page => page < Count ? 0 : 0.1f);
        var state = (GhostExperts)policy.CreateState(pages.Geometry);
        int[] dropped = pages.Dropped(policy, 600, state);
        Assert.Equal(6, dropped.Length);
        Assert.All(dropped, page => Assert.True(page < Count, $"{page}"));
        Assert.Equal(0.1f, state.Surprises.Squares[1], 1e-6f);
    }

    [Fact]
    public void Pages_shrink_before_any_of_their_row_goes()
    {
        var policy = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, Guard = 1, SegmentFloor = 0 };
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
        var surprises = new Surprises(2);
        float[] shares = [.. Enumerable.Repeat(0.1f, 2 * Count)];
        surprises.Temper(pages.View, shares);
        Assert.All(shares, x => Assert.Equal(0.1f, x));
        surprises.Observe(pages.View);
        surprises.Temper(pages.View, shares);

        // Page 7 of each row is fixed: of what it receives nothing counts.
        Assert.Equal(7 * 0.01f, shares[..Count].Sum(), 1e-5f);
        Assert.Equal(7 * 0.1f, shares[Count..].Sum(), 1e-5f);
    }

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
