using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Compares what a tier left with the oracle on the decoded pages.</summary>
public static partial class Expect
{
    public const double Bound = 1e-5;

    /// <summary>Output, log-sum-exp and page statistics of the step under way.</summary>
    public static void MatchesOracle(TierHarness harness, int layer, float[] queries, Attention got, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, Bound, sequences);

    /// <summary>The same within another bound.</summary>
    public static void MatchesOracle(
        TierHarness harness, int layer, float[] queries, Attention got, double bound, params HarnessSequence[] sequences) =>
        MatchesOracle(harness, layer, queries, got, bound, window: 0, sequences);

    /// <summary>The same through a window.</summary>
    public static void MatchesOracle(
        TierHarness harness, int layer, float[] queries, Attention got, double bound, int window, params HarnessSequence[] sequences)
    {
        KvGeometry g = harness.Shape.Geometry;
        foreach (RaggedSequence part in harness.Ragged)
        {
            HarnessSequence sequence = sequences.Single(s => s.Slot == part.Sequence);
            for (int head = 0; head < g.KvHeads; head++)
            {
                List<PlacedPage> pages = harness.DecodeRow(sequence, layer, head);
                PageStatistic[][] statistics = harness.ReadStatistics(sequence, layer, head);
                float[] tableLse = harness.ReadLogSumExp(sequence, layer, head);
                for (int i = 0; i < part.Tokens; i++)
                {
                    for (int member = 0; member < g.GroupSize; member++)
                    {
                        int at = ((part.FirstToken + i) * g.QueryHeads) + (head * g.GroupSize) + member;
                        QueryAttention expected = AttentionOracle.Attend(
                            queries.AsSpan(at * g.KeyWidth, g.KeyWidth), part.Length - part.Tokens + i, pages, g.PageTokens, g.ValueWidth, window);
                        string where = $"layer {layer} sequence {part.Sequence} token {i} KV head {head} query head {member} of its group";
                        Near(expected.Output, got.Output.AsSpan(at * g.ValueWidth, g.ValueWidth), bound, where);
                        Near(expected.LogSumExp, got.LogSumExp[at], bound, $"log-sum-exp of {where}");
                        if (i == part.Tokens - 1)
                        {
                            Near(expected.LogSumExp, tableLse[member], bound, $"log-sum-exp in the tables of {where}");
                            Near(expected.Pages, statistics[member], bound, where);
                        }
                    }
                }
            }
        }
    }

    /// <summary>|| got - expected || at most <paramref name="bound"/> times || expected ||.</summary>
    public static void Near(double[] expected, ReadOnlySpan<float> got, double bound, string where)
    {
        (double error, double norm) = (0, 0);
        for (int e = 0; e < expected.Length; e++)
        {
            error += (got[e] - expected[e]) * (got[e] - expected[e]);
            norm += expected[e] * expected[e];
        }

        WorstError.Note(error == 0 ? 0 : Math.Sqrt(error / norm), bound);
        Assert.True(Math.Sqrt(error) <= bound * Math.Sqrt(norm), $"{where}: relative error {Math.Sqrt(error / norm):e2}");
    }

    private static void Near(double expected, float got, double bound, string where)
    {
        // Infinities: a page that is not seen.
        if (expected == got)
        {
            return;
        }

        WorstError.Note(Math.Abs(got - expected) / Math.Max(1, Math.Abs(expected)), bound);
        Assert.True(Math.Abs(got - expected) <= bound * Math.Max(1, Math.Abs(expected)), $"{where}: expected {expected}, got {got}");
    }

    private static void Near(PageStatistic[] expected, PageStatistic[] got, double bound, string where)
    {
        Assert.Equal(expected.Length, got.Length);
        for (int entry = 0; entry < expected.Length; entry++)
        {
            Near(expected[entry].Largest, (float)got[entry].Largest, bound, $"largest logit of entry {entry}, {where}");
            Near(expected[entry].Sum, (float)got[entry].Sum, bound, $"sum of entry {entry}, {where}");
        }
    }
}
