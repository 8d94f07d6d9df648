namespace KvCacheGpu.Tests;

/// <summary>The bound on what trust loses against the best expert, on attention that is chosen against it.</summary>
public sealed class RegretTests
{
    private const int Pages = 24;
    private const int Experts = 5;
    private const int Steps = 300;
    private const int SwitchEvery = 60;

    /// <summary>Where the attention of a step falls.</summary>
    public enum Adversary
    {
        /// <summary>On what the most trusted expert would drop.</summary>
        AgainstTheMostTrusted,

        /// <summary>On the page whose loss costs most by trust.</summary>
        AgainstTrust,

        /// <summary>On what all experts but one would drop.</summary>
        ForOneExpert,

        /// <summary>As the one before, for another expert from time to time.</summary>
        ForOneAfterTheOther,

        /// <summary>Anywhere.</summary>
        Random,
    }

    [Theory]
    [InlineData(Adversary.AgainstTheMostTrusted)]
    [InlineData(Adversary.AgainstTrust)]
    [InlineData(Adversary.ForOneExpert)]
    [InlineData(Adversary.ForOneAfterTheOther)]
    [InlineData(Adversary.Random)]
    public void Trust_loses_no_more_than_the_bound_beyond_any_expert(Adversary adversary)
    {
        for (int seed = 0; seed < 12; seed++)
        {
            var random = new Random(seed);
            int[][] orders = [.. Enumerable.Range(0, Experts).Select(_ => Shuffled(random))];
            var policy = new AdaptivePolicy([.. orders.Select(order => new OraclePolicy((_, page) => Array.IndexOf(order, page)))]);
            var state = (GhostExperts)policy.CreateState(TestPages.OneLayer(1));
            TestPages pages = TestPages.Full(1, Pages);
            (pages.Mass, pages.LastMass) = (new float[Pages], new float[Pages]);
            int named = (int)Math.Ceiling(Pages * policy.GhostShare);
            (double ours, double[] theirs) = (0, new double[Experts]);
            pages.Samples = 1;
            pages.Plan(policy, 0, state);
            for (int step = 1; step <= Steps; step++)
            {
                float[] weights = state.Weights.ToArray();
                double[] mass = Attention(adversary, step, orders, named, weights, random);
                for (int page = 0; page < Pages; page++)
                {
                    pages.LastMass[page] = (float)mass[page];
                    pages.Mass[page] = (policy.Decay * pages.Mass[page]) + (float)mass[page];
                }

                pages.Samples++;
                pages.Plan(policy, 0, state);
                for (int expert = 0; expert < Experts; expert++)
                {
                    double loss = orders[expert].Take(named).Sum(page => mass[page]) / mass.Sum();
                    theirs[expert] += loss;
                    ours += weights[expert] * loss;
                }
            }

            // Cesa-Bianchi and Lugosi 2006, theorem 2.2, with each update's share of 1 - s in the potential.
            double bound = ((Math.Log(Experts) + (Steps * Math.Log(1 / (1 - policy.FixedShare)))) / policy.LearningRate) + (policy.LearningRate * Steps / 8);
            Assert.All(theirs, loss => Assert.True(ours - loss <= bound + 1e-2, $"seed {seed}: {ours} beyond {loss} by more than {bound}"));
        }
    }

    [Fact]
    public void Trust_follows_when_another_expert_becomes_the_best()
    {
        // Against a sequence of experts that changes m times, each change costs ln(N / s) / eta more.
        var random = new Random(5);
        int[][] orders = [.. Enumerable.Range(0, 2).Select(turn => Enumerable.Range(0, Pages).Select(i => turn == 0 ? i : Pages - 1 - i).ToArray())];
        var policy = new AdaptivePolicy([.. orders.Select(order => new OraclePolicy((_, page) => Array.IndexOf(order, page)))]);
        var state = (GhostExperts)policy.CreateState(TestPages.OneLayer(1));
        TestPages pages = TestPages.Full(1, Pages);
        (pages.Mass, pages.LastMass, pages.Samples) = (new float[Pages], new float[Pages], 1);
        pages.Plan(policy, 0, state);
        for (int turn = 0; turn < 4; turn++)
        {
            for (int step = 0; step < SwitchEvery; step++)
            {
                double[] mass = Attention(Adversary.ForOneAfterTheOther, (turn * SwitchEvery) + step, orders, Pages / 4, state.Weights.ToArray(), random);
                for (int page = 0; page < Pages; page++)
                {
                    pages.Mass[page] = (policy.Decay * pages.Mass[page]) + (float)mass[page];
                }

                pages.Samples++;
                pages.Plan(policy, 0, state);
            }

            Assert.True(state.Weights[turn % 2] > 0.9f, $"turn {turn}: {state.Weights[turn % 2]}");
        }
    }

    // [pages] shares of attention, their sum 1. An expert drops the first pages of its order.
    private static double[] Attention(Adversary adversary, int step, int[][] orders, int named, float[] weights, Random random)
    {
        double[] mass = new double[Pages];
        IEnumerable<int> Victims(int expert) => orders[expert].Take(named);
        int friend = adversary == Adversary.ForOneAfterTheOther ? step / SwitchEvery % orders.Length : 0;
        int[] pages = adversary switch
        {
            Adversary.AgainstTheMostTrusted => [.. Victims(Array.IndexOf(weights, weights.Max()))],
            Adversary.AgainstTrust => [Enumerable.Range(0, Pages).MaxBy(page => Enumerable.Range(0, orders.Length).Sum(e => Victims(e).Contains(page) ? weights[e] : 0))],
            Adversary.Random => [random.Next(Pages), random.Next(Pages)],
            _ => [.. Enumerable.Range(0, orders.Length).Where(e => e != friend).SelectMany(Victims).Except(Victims(friend))],
        };
        foreach (int page in pages)
        {
            mass[page] += 1.0 / pages.Length;
        }

        return mass;
    }

    private static int[] Shuffled(Random random)
    {
        int[] order = [.. Enumerable.Range(0, Pages)];
        random.Shuffle(order);
        return order;
    }
}
