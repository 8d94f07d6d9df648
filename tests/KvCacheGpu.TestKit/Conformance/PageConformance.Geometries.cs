using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Random geometries and formats: sealed pages equal the oracle's, and attention equals the oracle on the decoded pages.</summary>
public abstract partial class PageConformance<TTier>
{
    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 24)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public void A_random_geometry_seals_the_oracles_codes_and_attends_them(int seed)
    {
        var random = new Random(seed);
        (PageFormat Key, PageFormat Value) pair = FormatPairs.All[((seed * 5) + 2) % FormatPairs.All.Length];
        (int keyWidth, int valueWidth) = (Width(pair.Key), Width(pair.Value));
        (int kvHeads, int group, int pageTokens) = (random.Next(1, 4), random.Next(1, 5), random.Next(1, 40));
        var geometry = new KvGeometry(1, kvHeads * group, kvHeads, keyWidth, valueWidth, pageTokens);
        KernelShape shape = Shapes.Mixed(geometry, FormatPairs.OpenFor(pair, seed), pair.Key, pair.Value, sequences: 1, capacity: 64);
        int tokens = Math.Max(3, Math.Min(60, random.Next(2, 6) * pageTokens));
        int last = random.Next(1, Math.Min(4, tokens));
        using var harness = new TierHarness(TTier.Create, shape, 2 * kvHeads * (geometry.PagesFor(tokens) + 1), seed: seed);
        var data = new SequenceData(geometry, tokens, seed);
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, tokens - last);
        harness.Begin((sequence, last));
        harness.Append(0);
        Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
        Assert.Null(harness.End());
        harness.Seal(sequence);
        PageFormat open = shape.Classes[KernelShape.Open].KeyFormat;
        for (int head = 0; head < kvHeads; head++)
        {
            foreach (PageEntry entry in sequence.Rows[0, head].Where(e => e.PageClass == KernelShape.Sealed))
            {
                float[][] keys = Vectors(data.Keys[0], head, entry.PageIndex, keyWidth);
                float[][] values = Vectors(data.Values[0], head, entry.PageIndex, valueWidth);
                AssertSealed(harness, entry, keys, values, $"{pair} of {geometry}, head {head} page {entry.PageIndex}");
            }
        }

        int Width(PageFormat format) => format.WidthMultiple() * random.Next((7 + format.WidthMultiple()) / format.WidthMultiple(), 160 / format.WidthMultiple());

        float[][] Vectors(float[] vectors, int head, int page, int width) =>
            [.. Enumerable.Range(page * pageTokens, pageTokens).Select(t => Vector(vectors, (t * kvHeads) + head, width, open))];
    }
}
