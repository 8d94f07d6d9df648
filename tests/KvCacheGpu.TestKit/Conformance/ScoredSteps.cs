using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Steps of a harness whose scores are kept by the oracle beside the tier's.</summary>
public sealed class ScoredSteps(TierHarness harness, float decay)
{
    private readonly Dictionary<(HarnessSequence Sequence, int Layer, int Head, int Page), ScoreOracle> _expected = [];
    private readonly KvGeometry _g = harness.Shape.Geometry;
    private int _step;

    /// <summary>Appends to every layer, attends to some, observes and scores.</summary>
    public void Run(int[] layers, int window, int observed, params (HarnessSequence Sequence, int Tokens)[] parts)
    {
        _step++;
        harness.Begin(true, parts);
        for (int layer = 0; layer < _g.Layers; layer++)
        {
            harness.Append(layer);
        }

        foreach (int layer in layers)
        {
            harness.Attend(layer, window);
            if (observed > 0)
            {
                harness.Observe(layer, observed);
            }

            Expect(layer, window, observed, parts);
        }

        harness.Score(decay, _step);
        Assert.Null(harness.End());
        Check();
        Array.ForEach(parts, part => harness.Seal(part.Sequence));
        Check();
    }

    private void Expect(int layer, int window, int observed, (HarnessSequence Sequence, int Tokens)[] parts)
    {
        float[] queries = harness.Queries(layer);
        foreach (RaggedSequence part in harness.Ragged)
        {
            HarnessSequence sequence = parts.Single(p => p.Sequence.Slot == part.Sequence).Sequence;
            for (int head = 0; head < _g.KvHeads; head++)
            {
                List<PlacedPage> pages = harness.DecodeRow(sequence, layer, head);
                for (int i = Math.Max(0, part.Tokens - Math.Max(1, observed)); i < part.Tokens; i++)
                {
                    int position = part.Length - part.Tokens + i;
                    QueryAttention[] group = [.. Enumerable.Range(0, _g.GroupSize).Select(member => AttentionOracle.Attend(
                        queries.AsSpan((((part.FirstToken + i) * _g.QueryHeads) + (head * _g.GroupSize) + member) * _g.KeyWidth, _g.KeyWidth),
                        position,
                        pages,
                        _g,
                        window))];
                    int[] seen = [.. pages.Select(page => Enumerable.Range(page.PageIndex * _g.PageTokens, _g.PageTokens)
                        .Count(p => p <= position && (window == 0 || position - p < window)))];
                    for (int entry = 0; entry < pages.Count; entry++)
                    {
                        ScoreOracle page = Of(sequence, layer, head, pages[entry].PageIndex);
                        if (observed > 0)
                        {
                            page.Observe(group, entry);
                        }

                        if (i == part.Tokens - 1)
                        {
                            page.Score(group, entry, (double)seen[entry] / seen.Sum(), decay, _step);
                        }
                    }
                }
            }
        }
    }

    private ScoreOracle Of(HarnessSequence sequence, int layer, int head, int page)
    {
        if (!_expected.TryGetValue((sequence, layer, head, page), out ScoreOracle? scores))
        {
            _expected[(sequence, layer, head, page)] = scores = new ScoreOracle();
        }

        return scores;
    }

    // Checks all resident pages, since pages that no step touches must stay unchanged.
    private void Check()
    {
        foreach (HarnessSequence sequence in _expected.Keys.Select(k => k.Sequence).Distinct().ToArray())
        {
            foreach ((int layer, int head) in sequence.LayerHeads)
            {
                foreach (PageEntry entry in sequence.Rows[layer, head])
                {
                    ScoreOracle expected = Of(sequence, layer, head, entry.PageIndex);
                    PageScores got = harness.ReadScores(sequence, layer, head, entry.PageIndex);
                    string where = $"step {_step}, sequence {sequence.Slot}, layer {layer}, KV head {head}, page {entry.PageIndex}";
                    Near(expected.Mass, got.Mass, $"mass of {where}");
                    Near(expected.Peak, got.Peak, $"peak of {where}");
                    Near(expected.Last, got.Last, $"last of {where}");
                    Near(expected.Window, got.Window, $"window of {where}");
                    bool isClose = expected.Closest < (IsFast ? TestKit.Expect.FastBound : TestKit.Expect.Bound);
                    Assert.True(isClose || (expected.LastUsed, expected.Uses) == (got.LastUsed, got.Uses), $"uses of {where}: {got}");
                }
            }
        }
    }

    private bool IsFast => TestKit.Expect.IsFast(harness);

    private void Near(double expected, float got, string where) =>
        Assert.True(Math.Abs(expected - got) <= (IsFast ? 2 * TestKit.Expect.FastBound : 2e-5) * Math.Max(1, expected), $"{where}: expected {expected}, got {got}");
}
