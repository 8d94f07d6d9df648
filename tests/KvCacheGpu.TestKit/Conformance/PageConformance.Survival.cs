using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Zero, constant, one-hot, subnormal and +-65504 vectors are read back with no more error than the format has.</summary>
public abstract partial class PageConformance<TTier>
{
    [Theory]
    [MemberData(nameof(NaturalPairs))]
    public void Hard_vectors_survive(PageFormat key, PageFormat value)
    {
        const int Width = 64;
        var geometry = new KvGeometry(1, 1, 1, Width, pageTokens: 2);
        PageFormat open = FormatPairs.OpenFor((key, value), 0);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, open, key, value), 40);
        float[] ordinary = KeyGenerator.Keys(1, Width, KeyKind.Outliers, new Gaussian(5))[0];

        // A page for each kind: the vector and its negative, so that the page's mean is zero.
        float[][] vectors = [.. from kind in Enumerable.Range(0, HardVectors.Kinds)
                                let x = HardVectors.Hard(kind, Width, ordinary)
                                from v in new[] { x, [.. x.Select(e => -e)] }
                                select v];
        float[] tokens = [.. vectors.SelectMany(v => v), .. new float[2 * Width]];
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 1, 1));
        AppendTokens(harness, sequence, tokens, tokens, 0, tokens.Length / Width);
        harness.Seal(sequence);
        foreach (PageEntry entry in sequence.Rows[0, 0].SkipLast(1))
        {
            DecodedPage page = harness.Decode(entry.Slot, entry.PageClass, 2);
            for (int t = 0; t < 2; t++)
            {
                double[] x = [.. vectors[(2 * entry.PageIndex) + t].Select(e => (double)PageBytes.Rounded(open, e))];
                AssertSurvives(x, page.Keys[t], page.KeyCodes.Format, $"key of kind {entry.PageIndex}");
                AssertSurvives(x, page.Values[t], page.ValueCodes.Format, $"value of kind {entry.PageIndex}");
            }
        }
    }

    private static void AssertSurvives(double[] x, double[] decoded, PageFormat format, string where)
    {
        // FP8 saturates.
        double[] expected = format == PageFormat.FP8 ? [.. x.Select(e => Math.Clamp(e, -448, 448))] : x;
        double norm = Math.Sqrt(expected.Sum(e => e * e));
        double error = Math.Sqrt(expected.Zip(decoded, (a, b) => (a - b) * (a - b)).Sum());

        // Levels of a normal distribution are far from a vector that the rotation makes one-hot, but keep its size.
        double bound = format switch
        {
            PageFormat.F32 => 0,
            PageFormat.F16 or PageFormat.BF16 => 0.004,
            PageFormat.I8 or PageFormat.Q8 => 0.02,
            PageFormat.FP8 => 0.0625,
            PageFormat.V4 or PageFormat.Q4 => 0.35,
            _ => 1.5,
        };

        // Numbers below the smallest number or scale are lost: of ggml's scales, which round to nearest, 127 times 2^-25.
        int exponent = format switch { PageFormat.FP8 => -10, PageFormat.Q8 or PageFormat.Q4 => -18, _ => -21 };
        double floor = format == PageFormat.F32 ? 0 : Math.Sqrt(x.Length) * Math.ScaleB(1, exponent);
        Assert.True(error <= (bound * norm) + (norm == 0 ? 0 : floor), $"{where} in {format.Name()}: error {error:g3} of {norm:g3}");
    }
}
