using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Attention in whole numbers: where it is taken, and how far it is from the exact one. The conformance suites hold its results.</summary>
public class FastAttentionTests
{
    private const int Tokens = 700;

    public static TheoryData<SimdLevel, PageFormat, PageFormat, int, int> Fast => new()
    {
        { SimdLevel.Vector512, PageFormat.I8, PageFormat.I8, 128, 64 },
        { SimdLevel.Vector512, PageFormat.T4, PageFormat.V4, 128, 64 },
        { SimdLevel.Vector512, PageFormat.I8, PageFormat.V4, 64, 64 },
        { SimdLevel.Vector512, PageFormat.T4, PageFormat.I8, 96, 16 },
        { SimdLevel.Vector512, PageFormat.I8, PageFormat.F16, 80, 37 },
        { SimdLevel.Vector512, PageFormat.F16, PageFormat.I8, 576, 64 },
        { SimdLevel.Vector256, PageFormat.I8, PageFormat.I8, 128, 64 },
        { SimdLevel.Vector256, PageFormat.T4, PageFormat.V4, 128, 64 },
        { SimdLevel.Vector256, PageFormat.I8, PageFormat.V4, 32, 16 },
        { SimdLevel.Vector256, PageFormat.T4, PageFormat.I8, 96, 37 },
    };

    [Theory]
    [MemberData(nameof(Fast))]
    public void It_is_within_its_bound_of_the_exact_one_and_another(SimdLevel level, PageFormat key, PageFormat value, int width, int pageTokens)
    {
        foreach (int chunk in new[] { 1, 11 })
        {
            foreach (bool isSearching in new[] { false, true })
            {
                // Queries that look for one key among the tokens have logits up to 30 beyond the others.
                Action<float[]>? change = isSearching ? null : Usual;
                float[] exact = Attend(KvAttentionPrecision.Exact, level, (key, value), width, pageTokens, chunk, change);
                float[] fast = Attend(KvAttentionPrecision.Fast, level, (key, value), width, pageTokens, chunk, change);
                Assert.NotEqual(exact, fast);
                Assert.InRange(Error(exact, fast, width), 1e-7, isSearching ? 1.5 * Expect.FastBound : Expect.FastBound);
            }
        }
    }

    [Theory]
    [InlineData(SimdLevel.Vector512, PageFormat.F16, PageFormat.F16)]
    [InlineData(SimdLevel.Vector512, PageFormat.T3, PageFormat.V3)]
    [InlineData(SimdLevel.Vector256, PageFormat.Q8, PageFormat.Q8)]
    [InlineData(SimdLevel.Scalar, PageFormat.I8, PageFormat.I8)]
    public void Other_formats_and_processors_are_exact(SimdLevel level, PageFormat key, PageFormat value) => Assert.Equal(
        Attend(KvAttentionPrecision.Exact, level, (key, value), 64, 64, 11),
        Attend(KvAttentionPrecision.Fast, level, (key, value), 64, 64, 11));

    [Fact]
    public void A_query_that_is_no_number_harms_no_other()
    {
        float[] usual = Attend(KvAttentionPrecision.Fast, SimdLevel.Auto, (PageFormat.I8, PageFormat.I8), 64, 64, 1);
        foreach (float x in new[] { float.NaN, float.PositiveInfinity })
        {
            Assert.Equal(usual[64..], Attend(KvAttentionPrecision.Fast, SimdLevel.Auto, (PageFormat.I8, PageFormat.I8), 64, 64, 1, q => q[3] = x)[64..]);
        }
    }

    private static void Usual(float[] queries)
    {
        var random = new Gaussian(9);
        for (int i = 0; i < queries.Length; i++)
        {
            queries[i] = (float)random.Next();
        }
    }

    // The error of the worst head, relative to its norm.
    private static double Error(float[] exact, float[] fast, int width)
    {
        double worst = 0;
        for (int at = 0; at < exact.Length; at += width)
        {
            (double error, double norm) = (0, 0);
            for (int i = at; i < at + width; i++)
            {
                (error, norm) = (error + Math.Pow(exact[i] - (double)fast[i], 2), norm + Math.Pow(exact[i], 2));
            }

            worst = Math.Max(worst, Math.Sqrt(error / norm));
        }

        return worst;
    }

    private static float[] Attend(
        KvAttentionPrecision precision, SimdLevel level, (PageFormat Key, PageFormat Value) pair, int width, int pageTokens, int chunk, Action<float[]>? change = null)
    {
        var geometry = new KvGeometry(1, 8, 2, width, pageTokens: pageTokens);
        int pages = geometry.PagesFor(Tokens);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F16, pair.Key, pair.Value, 1, pages) with { Precision = precision };
        using var harness = new TierHarness((s, bytes) => new SimdTier(s, bytes, level), shape, 4 * (pages + 2));
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, Tokens, seed: 5, KeyKind.Plain));
        harness.Fill(sequence, Tokens - chunk);
        harness.Begin((sequence, chunk));
        harness.Append(0);
        float[] queries = harness.Queries(0);
        change?.Invoke(queries);
        return harness.Attend(0, queries).Output;
    }
}
