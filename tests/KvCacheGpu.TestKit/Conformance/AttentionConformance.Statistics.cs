using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Page statistics, holes in a sequence, and logits at the limits of exp.</summary>
public abstract partial class AttentionConformance<TTier>
{
    [Fact]
    public void Attention_masses_of_the_pages_sum_to_one()
    {
        var geometry = new KvGeometry(1, 6, 2, 96, 64, pageTokens: 16);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 91, 11));
        harness.Fill(sequence, 88);
        harness.Begin((sequence, 3));
        harness.Append(0);
        harness.Attend(0);
        for (int head = 0; head < geometry.KvHeads; head++)
        {
            PageStatistic[][] statistics = harness.ReadStatistics(sequence, 0, head);
            float[] lse = harness.ReadLogSumExp(sequence, 0, head);
            for (int member = 0; member < geometry.GroupSize; member++)
            {
                double mass = statistics[member].Sum(page => page.Sum * Math.Exp(page.Largest - lse[member]));
                Assert.Equal(6, statistics[member].Length);
                Assert.InRange(mass, 1 - 1e-5, 1 + 1e-5);
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.F16, "1")]
    [InlineData(PageFormat.I8, "1 2 4")]
    [InlineData(PageFormat.I8, "0 1 2 3 4")]
    [InlineData(PageFormat.F32, "0 3")]
    public void Dropped_pages_are_as_if_their_tokens_were_masked(PageFormat format, string dropped)
    {
        var geometry = new KvGeometry(1, 4, 2, 64, pageTokens: 5);
        KernelShape shape = format == PageFormat.I8 ? Shapes.Encoded(geometry, PageFormat.F16) : Shapes.Plain(geometry, format);
        int[] holes = [.. dropped.Split(' ').Select(int.Parse)];
        using var harness = new TierHarness(TTier.Create, shape, 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 42, 12));
        harness.Fill(sequence, 34);
        List<PlacedPage> whole = harness.DecodeRow(sequence, 0, 0);
        Array.ForEach(holes, page => harness.Drop(sequence, page));
        List<PlacedPage> left = harness.DecodeRow(sequence, 0, 0);
        Assert.Equal(whole.Where(p => !holes.Contains(p.PageIndex)).SelectMany(p => p.Page.Keys), left.SelectMany(p => p.Page.Keys));
        foreach (int tokens in new[] { 1, 6, 1 })
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
            harness.Seal(sequence);
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, 0, null)]
    [InlineData(PageFormat.I8, 0, null)]
    [InlineData(PageFormat.I8, 13, null)]
    [InlineData(PageFormat.I8, 13, 2f)]
    public void Reading_attends_as_the_step_did_and_leaves_the_tables_alone(PageFormat format, int window, float? cap)
    {
        KvGeometry geometry = new(1, 6, 2, 64, 48, pageTokens: 5) { LogitSoftCap = cap };
        KernelShape shape = format == PageFormat.I8 ? Shapes.Encoded(geometry, PageFormat.F16) : Shapes.Plain(geometry, format);
        using var harness = new TierHarness(TTier.Create, shape, 100);
        HarnessSequence[] sequences = [.. new[] { 1, 2 }.Select(i => harness.Add(new SequenceData(geometry, 60, 80 + i)))];
        harness.Fill(sequences[0], 31);
        harness.Fill(sequences[1], 52);
        harness.Drop(sequences[1], 3);
        harness.Begin((sequences[0], 6), (sequences[1], 1));
        harness.Append(0);
        Attention step = harness.Attend(0, window);
        harness.End();
        float[] queries = harness.Queries(0);
        string tables = Tables();
        harness.BeginRead(true, (sequences[0], 6), (sequences[1], 1));
        Attention read = harness.Attend(0, queries, window);
        Expect.MatchesOracle(harness, 0, queries, read, Expect.Bound, window, sequences);
        Assert.Equal(step.Output, read.Output);
        Assert.Equal(step.LogSumExp, read.LogSumExp);
        float[] others = [.. queries.Select(x => 1 - x)];
        harness.Attend(0, others, window);
        Assert.Equal(tables, Tables());

        // Otherwise the statistics become those of the last query, which the test above checks.
        harness.BeginRead(false, (sequences[0], 6), (sequences[1], 1));
        harness.Attend(0, others, window);
        Assert.NotEqual(tables, Tables());

        string Tables() => string.Join(' ', harness.ReadMeasures());
    }

    [Theory]
    [InlineData(PageFormat.F32, null, 80)]
    [InlineData(PageFormat.I8, null, 80)]
    [InlineData(PageFormat.F32, 50f, 46.0834)]
    [InlineData(PageFormat.I8, 200f, 75.9898)]
    public void Logits_of_eighty_either_way_neither_overflow_nor_vanish(PageFormat format, float? cap, double largest)
    {
        KvGeometry geometry = new(1, 2, 1, 64, pageTokens: 5) { LogitSoftCap = cap };
        KernelShape shape = format == PageFormat.I8 ? Shapes.Encoded(geometry, PageFormat.F32) : Shapes.Plain(geometry, format);
        using var harness = new TierHarness(TTier.Create, shape, 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 28, 13, KeyKind.Plain));
        harness.Fill(sequence, 24);
        harness.Begin((sequence, 4));
        harness.Append(0);
        double[] key = harness.DecodeRow(sequence, 0, 0)[1].Page.Keys[2];
        double gain = 80 * Math.Sqrt(64) / key.Sum(x => x * x);
        float[] queries = [.. Enumerable.Range(0, 8 * 64).Select(i => (float)((i / 64 % 2 == 0 ? gain : -gain) * key[i % 64]))];
        Attention attention = harness.Attend(0, queries);
        Assert.InRange(harness.ReadStatistics(sequence, 0, 0)[0].Max(p => p.Largest), largest - 0.1, largest + 0.1);
        Expect.MatchesOracle(harness, 0, queries, attention, 1e-4, sequence);
        Assert.All(attention.Output, x => Assert.True(float.IsFinite(x)));
    }

    [Fact]
    public void Logits_of_thousands_leave_the_winner_and_nothing_else()
    {
        var geometry = new KvGeometry(1, 1, 1, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, PageFormat.F32), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 17, 14));
        harness.Fill(sequence, 16);
        harness.Begin((sequence, 1));
        harness.Append(0);
        float[] queries = [.. harness.Queries(0).Select(x => x * 3000)];
        Attention attention = harness.Attend(0, queries);
        Expect.MatchesOracle(harness, 0, queries, attention, 1e-3, sequence);
        Assert.All(harness.ReadStatistics(sequence, 0, 0)[0], page => Assert.True(double.IsFinite(page.Largest) && page.Sum is >= 1 and <= 5));
    }
}
