namespace KvCacheGpu.Tests;

public sealed class AdaKvTests
{
    private static readonly H2oPolicy Mass = new(graceTokens: 0);

    [Fact]
    public void Heads_share_a_budget_by_their_parts_of_their_own_sums()
    {
        TestPages pages = TestPages.Full(2, 4);

        // Row 0 looks at one page, row 1 at all; its masses are larger, its parts decide.
        pages.Mass = [97, 1, 1, 1, 300, 300, 300, 300];
        float[] scores = pages.Scores(new AdaKvPolicy(Mass));
        Assert.Equal([0.97f, 0.01f, 0.01f, 0.01f, 0.25f, 0.25f, 0.25f, 0.25f], scores);
        Assert.Equal([1, 2, 3], pages.Dropped(new AdaKvPolicy(Mass), 300));
        Assert.Equal([2, 3, 7], pages.Dropped(Mass, 300));
    }

    [Fact]
    public void Every_head_keeps_its_floor()
    {
        TestPages pages = TestPages.Full(2, 10);
        pages.Mass = [.. Enumerable.Repeat(1e-6f, 9), 1, .. Enumerable.Repeat(1f, 10)];

        // Ten stay, five a head if even: a floor of 0.4 keeps two, of 0.2 one, of 1 five.
        Assert.Equal(8, pages.Dropped(new AdaKvPolicy(Mass, 0.4f), 1000).Count(p => p < 10));
        Assert.Equal(9, pages.Dropped(new AdaKvPolicy(Mass), 1000).Count(p => p < 10));
        Assert.Equal(5, pages.Dropped(new AdaKvPolicy(Mass, 1), 1000).Count(p => p < 10));
        Assert.Equal(20, pages.Dropped(new AdaKvPolicy(Mass, 1), 5000).Length);
    }

    [Fact]
    public void Layers_stay_apart_unless_told()
    {
        var pages = new TestPages(new KvGeometry(2, 1, 1, 8, pageTokens: 4), [0, 1, 2, 3], [0, 1, 2, 3]) { Mass = [97, 1, 1, 1, 1, 1, 1, 1] };
        Assert.Equal([3, 7], pages.Dropped(new AdaKvPolicy(Mass), 200));
        Assert.Equal([2, 3], pages.Dropped(new AdaKvPolicy(Mass) { AcrossLayers = true }, 200));
    }

    [Fact]
    public void Scores_below_zero_and_beyond_all_numbers_keep_their_order()
    {
        TestPages pages = TestPages.Full(2, 3);
        float[] scores = pages.Scores(new AdaKvPolicy(new OraclePolicy((r, p) => (r, p) switch { (0, _) => p - 2f, (1, 0) => float.PositiveInfinity, _ => 0 })));
        Assert.Equal([0, 1 / 3f, 2 / 3f, float.PositiveInfinity, 1 / 3f, 1 / 3f], scores);
    }
}
