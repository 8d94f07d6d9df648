using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Queries of pages under key scales, and the sums that scales are learned from.</summary>
public abstract partial class KeyScaleConformance<TTier>
{
    // Scaled vectors are longer, and so is the rounding error of their products.
    private const double ScaledBound = 1e-4;

    [Theory]
    [InlineData(64, 4, 2)]
    [InlineData(80, 3, 3)]
    [InlineData(128, 8, 1)]
    public void Sequences_under_two_tables_attend_in_one_batch(int width, int queryHeads, int kvHeads)
    {
        var geometry = new KvGeometry(2, queryHeads, kvHeads, width, 64, pageTokens: 5);
        (PageFormat, PageFormat)[] pairs =
        [
            (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T3, PageFormat.V3), (PageFormat.T2, PageFormat.V2), (PageFormat.T4, PageFormat.I8),
        ];
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F16, pairs), 200);
        harness.SetKeyScales(0, Random(geometry, 11, most: 4));
        harness.SetKeyScales(1, Random(geometry, 12, most: 4));
        HarnessSequence[] sequences = [.. Enumerable.Range(0, 2).Select(i => harness.Add(new SequenceData(geometry, 50, 70 + i)))];
        for (int i = 0; i < 2; i++)
        {
            sequences[i].KeyTable = 1 - i;
            harness.Fill(sequences[i], 32 + i);
            foreach ((int layer, int head) in sequences[i].LayerHeads)
            {
                for (int page = 1; page < 5; page++)
                {
                    harness.Demote(sequences[i], layer, head, page, 1 + page);
                }
            }
        }

        double[,] before = new double[2, kvHeads];
        foreach ((int first, int second) in new[] { (1, 1), (6, 1), (2, 9) })
        {
            harness.Begin(true, (sequences[0], first), (sequences[1], second));
            for (int layer = 0; layer < 2; layer++)
            {
                harness.Append(layer);
                Expect.MatchesOracle(harness, layer, harness.Queries(layer), harness.Attend(layer), ScaledBound, sequences);
            }

            // What the queries of one token pay to all pages is all that they have.
            harness.Observe(1, last: 1);
            for (int i = 0; i < 2 * kvHeads; i++)
            {
                (int s, int head) = (i / kvHeads, i % kvHeads);
                double mass = sequences[s].Rows[1, head].Sum(entry => harness.ReadScores(sequences[s], 1, head, entry.PageIndex).Window);
                Assert.InRange(mass - before[s, head], 1 - 1e-4, 1 + 1e-4);
                before[s, head] = mass;
            }

            harness.End();
        }
    }

    [Theory]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T2, PageFormat.V2)]
    public void Queries_of_any_size_give_finite_outputs(PageFormat key, PageFormat value)
    {
        var geometry = new KvGeometry(1, 4, 2, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, key, value), 60);
        byte[] exponents = [.. Enumerable.Range(0, 128).Select(i => (byte)(i % 5 == 0 ? 0 : 15 - (i % 3)))];
        harness.SetKeyScales(0, new KvKeyScales(geometry, exponents));
        var data = new SequenceData(geometry, 22, 64);
        data.Keys[0] = [.. data.Keys[0].Select(x => x / 256)];
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 20);
        Assert.Equal(KernelShape.Sealed, sequence.Rows[0, 1][2].PageClass);
        harness.Begin((sequence, 2));
        harness.Append(0);
        foreach (float size in new[] { 0f, float.Epsilon, 1e-30f, 1f, 1e20f, float.MaxValue })
        {
            float[] queries = [.. Enumerable.Range(0, 2 * 4 * 64).Select(i => i % 3 == 0 ? -size : size)];
            Attention got = harness.Attend(0, queries);
            Assert.All(got.Output, x => Assert.True(float.IsFinite(x)));
            Expect.MatchesOracleAsScaled(harness, 0, queries, got, stretch: 1 << 15, sequence);
        }
    }

    [Theory]
    [InlineData(TensorType.F32)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    public void Squares_of_queries_are_added_up_while_they_are_wanted(TensorType type)
    {
        var geometry = new KvGeometry(3, 6, 2, 40, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, PageFormat.T4, PageFormat.V4), 100);
        HarnessSequence[] sequences = [harness.Add(new SequenceData(geometry, 30, 65)), harness.Add(new SequenceData(geometry, 30, 66))];
        var expected = new double[3 * 2 * 40];
        AssertSums(harness, expected);
        for (int step = 0; step < 4; step++)
        {
            // On in the second and third step, and from zero again in the last.
            if (step is 1 or 3)
            {
                harness.Tier.SumsQueries = true;
                Array.Clear(expected);
            }

            Assert.Equal(step > 0, harness.Tier.SumsQueries);
            harness.Begin(step == 2, (sequences[0], 1 + step), (sequences[1], 3));
            for (int layer = 0; layer < 2; layer++)
            {
                harness.Append(layer);
                float[] queries = TypedNumbers.Numbers(TypedNumbers.Bytes(harness.Queries(layer), type), type);
                byte[] spread = TypedNumbers.Bytes(Strided.Spread(queries, 6, 40, 311, 51), type);
                harness.AttendTo(layer, TypedNumbers.HostTensor(spread, type, 311, 51), new float[queries.Length]);
                for (int i = 0; i < queries.Length && step > 0; i++)
                {
                    expected[(((layer * 2) + (i / 40 % 6 / 3)) * 40) + (i % 40)] += (double)queries[i] * queries[i];
                }
            }

            harness.End();
            if (step > 0)
            {
                AssertSums(harness, expected);
            }
        }

        harness.Tier.SumsQueries = false;
        Assert.False(harness.Tier.SumsQueries);
        harness.Begin((sequences[0], 1));
        harness.Append(0);
        harness.Attend(0);
        harness.End();
        AssertSums(harness, expected);
    }

    [Fact]
    public void Sums_beyond_binary32_are_its_largest_number()
    {
        var geometry = new KvGeometry(1, 2, 1, 8, pageTokens: 3);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, PageFormat.T4, PageFormat.V4), 20);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 2, 67));
        harness.Tier.SumsQueries = true;
        harness.Begin((sequence, 1));
        harness.Append(0);
        harness.Attend(0, Enumerable.Range(0, 16).Select(i => i == 5 ? 1e30f : 2f).ToArray());
        harness.End();
        var sums = new float[8];
        harness.Tier.ReadQuerySums(sums);
        Assert.Equal([8, 8, 8, 8, 8, float.MaxValue, 8, 8], sums);
    }

    [Fact]
    public void Sums_are_refused_without_a_format_that_they_are_for()
    {
        var geometry = new KvGeometry(1, 2, 2, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 20);
        harness.Tier.SumsQueries = false;
        Assert.Throws<InvalidOperationException>(() => harness.Tier.SumsQueries = true);
        Assert.Throws<InvalidOperationException>(() => harness.Tier.ReadQuerySums(new float[128]));
        using var other = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, PageFormat.T2, PageFormat.V2), 20);
        Assert.Throws<ArgumentException>(() => other.Tier.ReadQuerySums(new float[127]));
    }

    private static void AssertSums(TierHarness harness, double[] expected)
    {
        var got = new float[expected.Length];
        harness.Tier.ReadQuerySums(got);
        for (int i = 0; i < got.Length; i++)
        {
            Assert.InRange(got[i], expected[i] * (1 - 1e-6), expected[i] * (1 + 1e-6));
        }
    }
}
