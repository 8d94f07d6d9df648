namespace KvCacheGpu.Tests;

/// <summary>The order in which the adaptive policy takes steps, and its reasons.</summary>
public sealed class GreedyPlanTests
{
    private static readonly AdaptivePolicy ByMass = new(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, SegmentFloor = 0 };

    [Fact]
    public void A_page_without_mass_goes_before_one_with()
    {
        TestPages pages = TestPages.Full(2, 3);
        (pages.Samples, pages.Mass) = (50, [3, 0.1f, 9, 5, 8, 0]);
        Assert.Equal([5], pages.Dropped(ByMass, 100));
        Assert.Equal([1, 5], pages.Dropped(ByMass, 101));
        pages.Mass = new float[6];
        Assert.Equal([2, 5], pages.Dropped(ByMass, 200));
    }

    [Theory]
    [InlineData(1e-4f, true)]
    [InlineData(3f, false)]
    public void A_page_is_demoted_where_that_is_cheaper_per_byte(float error, bool demotes)
    {
        TestPages pages = TestPages.Full(1, 2);
        pages.Ladder = [new(100, 0, 0, 0b10), new(40, error, error, 0)];
        (pages.Samples, pages.Mass) = (50, [4, 6]);
        KvTransition[] plan = pages.Plan(ByMass, 50);
        Assert.Equal([demotes ? KvTransition.DemoteTo(1) : KvTransition.Drop, KvTransition.Keep], plan);

        // Asked for more, the demoted go on to be dropped, the cheaper one first.
        Assert.Equal([KvTransition.Drop, demotes ? KvTransition.DemoteTo(1) : KvTransition.Drop], pages.Plan(ByMass, demotes ? 130 : 110));

        // Written anew once already: all that is left is to go.
        pages.Demoted = [true, true];
        Assert.Equal([KvTransition.Drop, KvTransition.Keep], pages.Plan(ByMass, 50));
    }

    [Fact]
    public void Values_queries_and_outputs_set_the_price()
    {
        // Row 0 writes far more than a usual row, row 2 far less: the one counts more, the other as any.
        TestPages pages = TestPages.Full(3, 1);
        (pages.Samples, pages.Mass) = (50, [4, 5, 5.5f]);
        (pages.ValueSquare, pages.OutputSquare) = ([9, 1, 0.1f], [9, 1, 0.1f]);
        Assert.Equal([1], pages.Dropped(ByMass, 1));
        Assert.Equal([1, 2], pages.Dropped(ByMass, 200));
        pages.OutputSquare = [1, 9, 0.1f];
        pages.ValueSquare = [1, 9, 0.1f];
        Assert.Equal([0, 2], pages.Dropped(ByMass, 200));

        // Sharper queries make keys' noise dearer.
        pages = TestPages.Full(2, 1);
        (pages.Samples, pages.Mass) = (50, [4, 4]);
        pages.Ladder = [new(100, 0, 0, 0b10), new(40, 1e-3f, 1e-3f, 0)];
        (pages.QuerySquare, pages.KeySquare) = ([8, 80], [8, 8]);
        Assert.Equal([KvTransition.DemoteTo(1), KvTransition.Keep], pages.Plan(ByMass, 60));
        pages.QuerySquare = [800, 80];
        Assert.Equal([KvTransition.Keep, KvTransition.DemoteTo(1)], pages.Plan(ByMass, 60));
    }

    [Fact]
    public void Attention_spread_over_a_page_makes_its_noise_cheaper()
    {
        TestPages pages = TestPages.Full(1, 2);
        pages.Ladder = [new(100, 0, 0, 0b10), new(40, 1e-3f, 1e-3f, 0)];
        (pages.Samples, pages.Mass, pages.Peak) = (50, [5, 5], [0.03f, 0.13f]);
        Assert.Equal([KvTransition.DemoteTo(1), KvTransition.Keep], pages.Plan(ByMass, 60));
    }

    [Fact]
    public void A_page_that_queries_rely_on_is_written_smaller_last()
    {
        // By its position alone the first page would get least attention, yet it has got most of it so far.
        AdaptivePolicy byPosition = new(new WindowPolicy(1)) { RowFloor = 0, SegmentFloor = 0 };
        TestPages pages = TestPages.Full(1, 3);
        pages.Ladder = [new(100, 0, 0, 0b10), new(40, 1e-3f, 1e-3f, 0)];
        (pages.Samples, pages.Mass, pages.Peak) = (50, [40, 5.1f, 5], [0.1f, 0.1f, 0.1f]);
        Assert.Equal([KvTransition.Keep, KvTransition.DemoteTo(1), KvTransition.Keep], pages.Plan(byPosition, 60));
        pages.Mass = [5, 5.1f, 40];
        Assert.Equal([KvTransition.DemoteTo(1), KvTransition.Keep, KvTransition.Keep], pages.Plan(byPosition, 60));
    }

    [Fact]
    public void No_other_plan_frees_as_much_for_less_error()
    {
        for (int seed = 0; seed < 100; seed++)
        {
            var random = new Random(seed);
            TestPages pages = TestPages.Full(2, 3);
            pages.Ladder = [new(100, 0, 0, 0b110), new(60, 0.2f * random.NextSingle(), 0.1f, 0), new(25, random.NextSingle(), 0.5f, 0)];
            pages.Samples = 50;
            pages.Mass = [.. Enumerable.Range(0, 6).Select(_ => 10 * random.NextSingle())];
            pages.ValueSquare = [.. Enumerable.Range(0, 6).Select(i => (i < 3 ? seed : 1) * random.NextSingle())];
            KvTransition[] plan = pages.Plan(ByMass, random.Next(1, 600));
            (long freed, double error) = (pages.Freed(plan), ErrorOf(pages, plan));
            Assert.All(AllPlans().Where(other => pages.Freed(other) >= freed), other => Assert.True(ErrorOf(pages, other) >= error * (1 - 1e-9)));
        }
    }

    [Fact]
    public void Rows_keep_a_floor_while_others_can_give()
    {
        TestPages pages = TestPages.Full(2, 10);
        (pages.Samples, pages.Mass) = (50, [.. Enumerable.Range(0, 20).Select(i => i < 10 ? 0.001f : 1f)]);
        Assert.Equal(10, pages.Dropped(ByMass, 1000).Count(p => p < 10));
        var floored = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0.4f };
        Assert.Equal(8, pages.Dropped(floored, 1000).Count(p => p < 10));
        Assert.Equal(20, pages.Dropped(floored, 2000).Length);

        // A row at its floor still shrinks.
        pages.Ladder = [new(100, 0, 0, 0b10), new(90, 1, 1, 0)];
        KvTransition[] plan = pages.Plan(floored, 1000);
        Assert.All(plan[..2], t => Assert.Equal(KvTransition.DemoteTo(1), t));
    }

    /// <summary>What goes to host memory is read on: it comes before what is demoted, as far as bytes reach, and nothing is lost by it.</summary>
    [Fact]
    public void Pages_go_to_host_memory_before_they_are_demoted()
    {
        TestPages pages = TestPages.Full(1, 3);
        pages.Ladder = [new(100, 0, 0, 0b10), new(40, .02f, .02f, 0)];
        (pages.Samples, pages.Mass) = (50, [4, 6, 5]);
        Assert.Equal([KvTransition.DemoteTo(1), KvTransition.Keep, KvTransition.Keep], pages.Plan(ByMass, 60));
        pages.OffloadBytes = 199;
        Assert.Equal([KvTransition.Drop, KvTransition.Keep, KvTransition.Keep], pages.Plan(ByMass, 60));
        Assert.Equal([KvTransition.Drop, KvTransition.Keep, KvTransition.DemoteTo(1)], pages.Plan(ByMass, 160));
        var small = new AdaptivePolicy(new H2oPolicy(graceTokens: 0)) { RowFloor = 0, SegmentFloor = 0, OffloadPrice = 1 };
        Assert.Equal([KvTransition.DemoteTo(1), KvTransition.Keep, KvTransition.Keep], pages.Plan(small, 60));
    }

    [Fact]
    public void Statistics_that_are_no_numbers_do_not_stop_the_budget()
    {
        TestPages pages = TestPages.Full(1, 4);
        (pages.Samples, pages.Mass) = (50, [1, float.NaN, float.PositiveInfinity, 2]);
        pages.ValueSquare = [float.NaN, 1, 1, 1];
        pages.OutputSquare = [float.PositiveInfinity];
        Assert.Equal(4, pages.Dropped(ByMass, 400).Length);
    }

    private static double ErrorOf(TestPages pages, KvTransition[] plan)
    {
        double whole = (1 - Math.Pow(0.98f, 50)) / (1 - 0.98f);
        double[] squares = [.. Enumerable.Range(0, 2).Select(row => pages.ValueSquare!.Skip(3 * row).Take(3).Average() + 1.0)];
        double usual = Math.Sqrt(squares[0] * squares[1]);
        return plan.Index().Sum(x =>
        {
            double p = pages.Mass![x.Index] / whole;
            double times = Math.Max(1, squares[x.Index / 3] / usual);
            double weight = times * times * (times > 3 ? times * times * times / 27 : 1);
            return x.Item.Kind switch
            {
                KvTransitionKind.Drop => weight * p * p,
                KvTransitionKind.Demote => 4.1 * Math.Sqrt(weight) * p * p * (pages.Ladder![x.Item.Class].KeyError + (pages.Ladder[x.Item.Class].ValueError / 2)),
                _ => 0,
            };
        });
    }

    private static IEnumerable<KvTransition[]> AllPlans()
    {
        KvTransition[] choices = [KvTransition.Keep, KvTransition.DemoteTo(1), KvTransition.DemoteTo(2), KvTransition.Drop];
        for (int code = 0; code < 1 << 12; code++)
        {
            yield return [.. Enumerable.Range(0, 6).Select(page => choices[code >> (2 * page) & 3])];
        }
    }
}
