namespace KvCacheGpu.Tests;

/// <summary>The rules that every plan follows, on pages of all kinds.</summary>
public sealed class PlanTests
{
    [Theory]
    [InlineData("lru")]
    [InlineData("h2o")]
    [InlineData("tova")]
    [InlineData("snapkv")]
    [InlineData("dropkv")]
    [InlineData("random")]
    [InlineData("adakv")]
    [InlineData("adaptive")]
    public void Plans_free_what_is_asked_and_touch_nothing_else(string name)
    {
        Assert.True(KvPolicies.TryParse(name, out KvPolicy? policy));
        for (int seed = 0; seed < 300; seed++)
        {
            (TestPages pages, long bytes) = RandomPages.Make(seed);
            KvTransition[] plan = pages.Plan(policy!, bytes);
            Assert.Equal(plan, pages.Plan(policy!, bytes));
            long all = 0;
            for (int page = 0; page < plan.Length; page++)
            {
                bool victim = !pages.Fixed![page] && pages.Bytes![page] > 0;
                all += victim ? pages.Bytes![page] : 0;
                Assert.True(victim || plan[page] == KvTransition.Keep);
                Assert.True(plan[page].Kind != KvTransitionKind.Demote || MayDemote(pages, page, plan[page].Class));
            }

            long freed = pages.Freed(plan);
            Assert.True(freed >= Math.Min(bytes, all), $"seed {seed}: {freed} of {bytes}");
            Assert.True(freed < bytes + RandomPages.MostBytes, $"seed {seed}: {freed} of {bytes}");
        }
    }

    [Fact]
    public void Rows_are_levelled_and_their_lowest_scores_go()
    {
        var policy = new H2oPolicy(graceTokens: 0);
        for (int seed = 0; seed < 300; seed++)
        {
            (TestPages pages, long bytes) = RandomPages.Make(seed);
            pages.SegmentStarts = null;
            KvTransition[] plan = pages.Plan(policy, bytes);
            float[] scores = pages.Scores(policy);
            var kept = new List<(int Count, bool CanGive, bool Gave)>();
            for (int row = 0; row < pages.RowStarts.Length - 1; row++)
            {
                int[] all = [.. Enumerable.Range(pages.RowStarts[row], pages.RowStarts[row + 1] - pages.RowStarts[row])];
                int[] gone = [.. all.Where(p => plan[p] == KvTransition.Drop)];
                int[] left = [.. all.Where(p => plan[p] != KvTransition.Drop && !pages.Fixed![p] && pages.Bytes![p] > 0)];
                Assert.All(gone, g => Assert.All(left, l => Assert.True(scores[g] < scores[l] || (scores[g] == scores[l] && g > l))));
                kept.Add((all.Length - gone.Length, left.Length > 0, gone.Length > 0));
            }

            int least = kept.Where(x => x.Gave).Select(x => x.Count).DefaultIfEmpty(int.MaxValue - 1).Min();
            Assert.All(kept.Where(x => x.CanGive), x => Assert.True(x.Count <= least + 1));
        }
    }

    [Fact]
    public void Nothing_asked_is_nothing_planned()
    {
        TestPages pages = RandomPages.Make(5).Pages;
        Assert.Empty(pages.Dropped(new H2oPolicy(), 0));
        Assert.Empty(pages.Dropped(new AdaptivePolicy(), 0));
        Assert.Empty(Empty().Plan(new LruPolicy(), 100));
        Assert.Empty(Empty().Plan(new AdaptivePolicy(), 100, new AdaptivePolicy().CreateState(TestPages.OneLayer(1))));
    }

    [Fact]
    public void Equal_scores_leave_the_lower_positions()
    {
        TestPages pages = TestPages.Full(2, 4);
        pages.Mass = [1, 0, -0f, 0, 5, 5, 5, 5];
        Assert.Equal([2, 3, 6, 7], pages.Dropped(new H2oPolicy(graceTokens: 0), 400));
        pages.Mass = [1, float.NaN, 0, 2, 5, 5, 5, 5];
        Assert.Equal([1, 7], pages.Dropped(new H2oPolicy(graceTokens: 0), 200));
    }

    [Fact]
    public void Pages_that_others_share_are_no_use()
    {
        TestPages pages = TestPages.Full(1, 4);
        (pages.Mass, pages.Bytes) = ([0, 1, 2, 3], [0, 100, 0, 100]);
        Assert.Equal([1], pages.Dropped(new H2oPolicy(graceTokens: 0), 50));
        Assert.Equal([1, 3], pages.Dropped(new H2oPolicy(graceTokens: 0), 5000));
        pages.Bytes = null;
        Assert.Empty(pages.Dropped(new H2oPolicy(), 100));
    }

    [Fact]
    public void The_window_drops_what_lies_between_and_beyond_it_the_oldest()
    {
        TestPages pages = TestPages.Full(1, 10);
        pages.Fixed = [true, .. new bool[5], .. Enumerable.Repeat(true, 4)];
        Assert.Equal([1, 2, 3], pages.Dropped(new WindowPolicy(4, 20), 0));
        pages.Fixed[2] = true;
        Assert.Equal([1, 3], pages.Dropped(new WindowPolicy(4, 20), 200));
        Assert.Equal([1, 3, 4], pages.Dropped(new WindowPolicy(4, 20), 201));
        Assert.Equal([1, 3], pages.Dropped(new WindowPolicy(4, 400), 200));
    }

    [Fact]
    public void A_segment_keeps_its_floor_while_others_can_give()
    {
        TestPages pages = TestPages.Full(1, 20);
        pages.SegmentStarts = [32];
        pages.Mass = [.. Enumerable.Range(0, 20).Select(i => (float)i)];

        // 8 pages of the first segment, 12 of the second; 10 stay, so that a segment's even share is half of its pages.
        Assert.Equal([0, 1, 2, 3, 4, 5, 8, 9, 10, 11], pages.Dropped(new H2oPolicy(graceTokens: 0) { SegmentFloor = 0.5f }, 1000));
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], pages.Dropped(new H2oPolicy(graceTokens: 0) { SegmentFloor = 0 }, 1000));
        Assert.Equal([0, 1, 2, 3, 4, 5, 8, 9, 10, 11], pages.Dropped(new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { SegmentFloor = 0.5f }, 1000));

        // The floor yields before the budget does.
        pages.Fixed = [.. new bool[8], .. Enumerable.Repeat(true, 12)];
        Assert.Equal([0, 1, 2, 3, 4, 5, 6], pages.Dropped(new H2oPolicy() { SegmentFloor = 1 }, 700));
    }

    [Fact]
    public void The_heap_sorts()
    {
        var random = new Random(1);
        var expected = new List<(double, long)>();
        var heap = new MinHeap(new double[100], new long[100]);
        for (long tie = 0; tie < 100; tie++)
        {
            double key = random.Next(20);
            expected.Add((key, tie));
            heap.Push(key, tie);
        }

        expected.Sort();
        foreach ((double key, long tie) in expected.Take(50))
        {
            Assert.Equal((key, tie), (heap.Key, heap.Tie));
            heap.Pop();
        }

        heap.Replace(1000, 7);
        foreach ((double key, long tie) in expected.Skip(51).Append((1000, 7)))
        {
            Assert.Equal((key, tie), (heap.Key, heap.Tie));
            heap.Pop();
        }
    }

    private static TestPages Empty() => new(TestPages.OneLayer(1), Array.Empty<int>());

    private static bool MayDemote(TestPages pages, int page, int target) =>
        !pages.Demoted![page] && (pages.Ladder![pages.Class![page]].DemotesTo >> target & 1) != 0;
}
