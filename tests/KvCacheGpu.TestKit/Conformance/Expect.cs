using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Compares the results of a tier with the oracle on the decoded pages, and the codes of two encoders.</summary>
public static class Expect
{
    public const double Bound = 1e-5;

    /// <summary>The error that a logit may have from sums in binary32, in proportion to |q| |k| and the scale, before a cap.</summary>
    public const double LogitError = 1e-6;

    /// <summary>The bound of fast attention on a processor.</summary>
    public const double FastBound = 1e-4;

    // Queries are rounded to 15 bits of their largest element, which is sqrt(width / 12) / 32767 of their norm where a single element makes it up, and mostly a fifth of that.
    private const double FastLogitError = 2e-5;
    private const double FastMostLogitError = 1e-4;

    // The rounding error of sums of the smallest numbers of binary32.
    private const double Floor = 32 * 1.401298464324817e-45;

    /// <summary>True for a processor's tier that attends in whole numbers where it can.</summary>
    public static bool IsFast(TierHarness harness) => harness.Tier is SimdTier { Shape.Precision: KvAttentionPrecision.Fast };

    /// <summary>Checks output, log-sum-exp and page statistics of the step under way.</summary>
    public static void MatchesOracle(TierHarness harness, int layer, float[] queries, Attention got, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, Bound, sequences);

    /// <summary>The same within another bound.</summary>
    public static void MatchesOracle(
        TierHarness harness, int layer, float[] queries, Attention got, double bound, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, bound, window: 0, sequences);

    /// <summary>The same through a window.</summary>
    public static void MatchesOracle(
        TierHarness harness, int layer, float[] queries, Attention got, double bound, int window, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, (bound, 0, 1), window, sequences);

    /// <summary>The same for the sequences' own queries of layer 0, of which every <paramref name="stride"/>th token and the last one count: long chunks have many.</summary>
    public static void MatchesOracleAt(TierHarness harness, Attention got, double bound, int window, int stride, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, 0, harness.Queries(0), got, (bound, 0, stride), window, sequences);

    /// <summary>The same for logits that are so large that their rounding counts: <see cref="LogitError"/> of |q| |k| and the scale.</summary>
    public static void MatchesOracleAsRounded(TierHarness harness, float[] queries, Attention got, HarnessSequence sequence) =>
        MatchesOracle(harness, 0, queries, got, (Bound, LogitError, 1), window: 0, sequence);

    /// <summary>
    /// The same over pages under key scales, which bound the error of a logit by |q'| |k'| of the scaled vectors: at most <paramref name="stretch"/> times |q| |k|.
    /// </summary>
    public static void MatchesOracleAsScaled(
        TierHarness harness, int layer, float[] queries, Attention got, double stretch, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, (Bound, stretch * LogitError, 1), window: 0, sequences);

    private static void MatchesOracle(
        TierHarness harness, int layer, float[] queries, Attention got, (double Output, double Logit, int Stride) bound, int window, params HarnessSequence[] sequences)
    {
        KvGeometry g = harness.Shape.Geometry;
        if (IsFast(harness))
        {
            bound = (FastBound, Math.Max(FastLogitError, bound.Logit / LogitError * FastMostLogitError), bound.Stride);
        }

        foreach (RaggedSequence part in harness.Ragged)
        {
            HarnessSequence sequence = sequences.Single(s => s.Slot == part.Sequence);
            for (int head = 0; head < g.KvHeads; head++)
            {
                List<PlacedPage> pages = harness.DecodeRow(sequence, layer, head);
                bool isMeasured = harness.Shape.HasStatistics;
                PageStatistic[][] statistics = isMeasured ? harness.ReadStatistics(sequence, layer, head) : [];
                float[] tableLse = isMeasured ? harness.ReadLogSumExp(sequence, layer, head) : [];
                for (int i = 0; i < part.Tokens; i++)
                {
                    if (i % bound.Stride != 0 && i != part.Tokens - 1)
                    {
                        continue;
                    }

                    for (int member = 0; member < g.GroupSize; member++)
                    {
                        int at = ((part.FirstToken + i) * g.QueryHeads) + (head * g.GroupSize) + member;
                        QueryAttention expected = AttentionOracle.Attend(
                            queries.AsSpan(at * g.KeyWidth, g.KeyWidth), part.Length - part.Tokens + i, pages, g, window, bound.Logit);
                        string where = $"layer {layer} sequence {part.Sequence} token {i} KV head {head} query head {member} of its group";
                        Near(expected.Output, got.Output.AsSpan(at * g.ValueWidth, g.ValueWidth), bound.Output, where, expected.Reach);
                        Near(expected.LogSumExp, got.LogSumExp[at], bound.Output, $"log-sum-exp of {where}", expected.LogitError);
                        if (i == part.Tokens - 1 && isMeasured)
                        {
                            Near(expected.LogSumExp, tableLse[member], bound.Output, $"log-sum-exp in the tables of {where}", expected.LogitError);
                            Near(expected.Pages, statistics[member], bound.Output, where, g.PageTokens, expected.LogitError);
                        }
                    }
                }
            }
        }
    }

    /// <summary>Checks that || got - expected || is at most <paramref name="bound"/> times || expected ||, or the rounding error of the smallest numbers.</summary>
    public static void Near(double[] expected, ReadOnlySpan<float> got, double bound, string where, double floor = 0)
    {
        (double error, double norm) = (0, 0);
        for (int e = 0; e < expected.Length; e++)
        {
            error += (got[e] - expected[e]) * (got[e] - expected[e]);
            norm += expected[e] * expected[e];
        }

        floor += Floor * Math.Sqrt(expected.Length);
        WorstError.Note(Math.Sqrt(error) <= floor ? 0 : Math.Sqrt(error / norm), bound);
        Assert.True(
            Math.Sqrt(error) <= (bound * Math.Sqrt(norm)) + floor, $"{where}: relative error {Math.Sqrt(error / norm):e2} of {Math.Sqrt(norm):e2}");
    }

    /// <summary>
    /// Checks for the same codes, scales and mean, and the same deviation up to one unit in the last place. The sign of zeros does not count, nor do the
    /// codes of a ggml block whose d is zero, since they all decode to zero.
    /// </summary>
    public static void SameCodes(PartCodes expected, PartCodes got, string where)
    {
        Assert.Equal(expected.Codes.Length, got.Codes.Length);
        for (int t = 0; t < expected.Codes.Length; t++)
        {
            Same(expected.Scales[t], got.Scales[t], $"scales of token {t}, {where}");
            int group = expected.Format.ScaleGroup(expected.Codes[t].Length);
            for (int e = 0; e < expected.Codes[t].Length; e++)
            {
                bool isFree = expected.Format is PageFormat.Q8 or PageFormat.Q4 && expected.Scales[t][e / group] == Half.Zero;
                Assert.True(
                    isFree || expected.Codes[t][e] == got.Codes[t][e],
                    $"{where}: token {t} element {e}: expected code {expected.Codes[t][e]:X}, got {got.Codes[t][e]:X}");
            }
        }

        Same(expected.Mean, got.Mean, $"mean of {where}");
        for (int e = 0; e < expected.Deviation.Length; e++)
        {
            int distance = BitConverter.HalfToUInt16Bits(expected.Deviation[e]) - BitConverter.HalfToUInt16Bits(got.Deviation[e]);
            Assert.True(Math.Abs(distance) <= 1, $"{where}: deviation {e}: expected {expected.Deviation[e]}, got {got.Deviation[e]}");
        }
    }

    private static void Near(double expected, float got, double bound, string where, double floor = 0)
    {
        // Infinities: a page that is not seen. Logits beyond binary32 are stored as its largest number.
        expected = double.IsFinite(expected) ? Math.Clamp(expected, float.MinValue, float.MaxValue) : expected;
        if (expected == got)
        {
            return;
        }

        WorstError.Note(Math.Abs(got - expected) <= floor ? 0 : Math.Abs(got - expected) / Math.Max(1, Math.Abs(expected)), bound);
        Assert.True(
            Math.Abs(got - expected) <= (bound * Math.Max(1, Math.Abs(expected))) + floor, $"{where}: expected {expected}, got {got}");
    }

    private static void Near(PageStatistic[] expected, PageStatistic[] got, double bound, string where, int tokens, double error)
    {
        Assert.Equal(expected.Length, got.Length);
        for (int entry = 0; entry < expected.Length; entry++)
        {
            Near(expected[entry].Largest, (float)got[entry].Largest, bound, $"largest logit of entry {entry}, {where}", error);

            // With logits of this uncertainty, any number of the page's tokens may be near the largest.
            double reach = Math.Min(tokens, expected[entry].Sum * (Math.Exp(2 * error) - 1));
            Near(expected[entry].Sum, (float)got[entry].Sum, bound, $"sum of entry {entry}, {where}", reach);
        }
    }

    private static void Same(Half[] expected, Half[] got, string where)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(expected[i] == got[i], $"{where}: number {i}: expected {expected[i]}, got {got[i]}");
        }
    }
}
