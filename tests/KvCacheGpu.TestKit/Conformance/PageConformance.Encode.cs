using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Encoding gives the oracle's codes, scales and digests on every tier, and errors within the steps of the formats.</summary>
public abstract partial class PageConformance<TTier>
{
    private static readonly (int Key, int Value, int PageTokens)[] EncodeShapes =
    [
        (64, 64, 16), (128, 128, 64), (192, 128, 5), (96, 32, 1), (576, 512, 5), (256, 256, 5), (32, 96, 16),
        (8, 8, 5), (48, 80, 16), (80, 48, 5), (40, 24, 3),
    ];

    /// <summary>Every pair with three shapes that it takes, with narrow and odd widths if it takes them.</summary>
    public static TheoryData<PageFormat, PageFormat, PageFormat, int, int, int> EncodeCases()
    {
        var cases = new TheoryData<PageFormat, PageFormat, PageFormat, int, int, int>();
        for (int i = 0; i < FormatPairs.All.Length; i++)
        {
            (PageFormat key, PageFormat value) = FormatPairs.All[i];
            (int, int, int)[] taken = [.. EncodeShapes.Where(s => key.Takes(s.Key) && value.Takes(s.Value))];
            int count = i < FormatPairs.Natural.Length ? 4 : 2;
            for (int n = 0; n < count; n++)
            {
                (int keyWidth, int valueWidth, int pageTokens) = taken[((3 * n) + i) % taken.Length];
                cases.Add(FormatPairs.OpenFor((key, value), i + n), key, value, keyWidth, valueWidth, pageTokens);
            }
        }

        cases.Add(PageFormat.F32, PageFormat.I8, PageFormat.I8, 12, 36, 5);
        cases.Add(PageFormat.F32, PageFormat.FP8, PageFormat.FP8, 12, 20, 5);
        return cases;
    }

    [Theory]
    [MemberData(nameof(EncodeCases))]
    public void Codes_scales_and_digests_are_the_oracles_bit_for_bit(
        PageFormat open, PageFormat key, PageFormat value, int keyWidth, int valueWidth, int pageTokens)
    {
        using TierHarness harness = SealedVectors(
            open, key, value, keyWidth, valueWidth, pageTokens, out HarnessSequence sequence, out float[] keys, out float[] values);
        int pages = (sequence.Length / pageTokens) - 1;
        foreach ((int head, PageEntry entry) in from head in Enumerable.Range(0, 2)
                                                from entry in sequence.Rows[0, head].Take(pages)
                                                select (head, entry))
        {
            float[][] plainKeys = Page(keys, head, entry.PageIndex, pageTokens, keyWidth, open);
            float[][] plainValues = Page(values, head, entry.PageIndex, pageTokens, valueWidth, open);
            AssertSealed(harness, entry, plainKeys, plainValues, $"head {head} page {entry.PageIndex}");
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.I8, PageFormat.I8, 48, 80, 5)]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.V4, 128, 128, 16)]
    [InlineData(PageFormat.BF16, PageFormat.T4, PageFormat.V4, 64, 96, 5)]
    [InlineData(PageFormat.F32, PageFormat.I8, PageFormat.V4, 576, 576, 5)]
    public void Encoded_vectors_are_within_half_a_step_in_the_rotated_basis(
        PageFormat open, PageFormat key, PageFormat value, int keyWidth, int valueWidth, int pageTokens)
    {
        using TierHarness harness = SealedVectors(
            open, key, value, keyWidth, valueWidth, pageTokens, out HarnessSequence sequence, out float[] keys, out float[] values);
        foreach ((int head, PageEntry entry) in SealedEntries(sequence))
        {
            DecodedPage page = harness.Decode(entry.Slot, KernelShape.Sealed, pageTokens);
            AssertHalfAStep(Page(keys, head, entry.PageIndex, pageTokens, keyWidth, open), page.KeyCodes, page.StoredKeys);
            AssertHalfAStep(Page(values, head, entry.PageIndex, pageTokens, valueWidth, open), page.ValueCodes, page.StoredValues);
        }
    }

    // Two heads of hard vectors, long enough that two pages of each are sealed.
    private static TierHarness SealedVectors(
        PageFormat open,
        PageFormat key,
        PageFormat value,
        int keyWidth,
        int valueWidth,
        int pageTokens,
        out HarnessSequence sequence,
        out float[] keys,
        out float[] values)
    {
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
        var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, open, key, value), 100);
        int tokens = Math.Max(3, 24 / pageTokens) * pageTokens;
        keys = HardVectors.Make(tokens, 2, keyWidth, 51);
        values = HardVectors.Make(tokens, 2, valueWidth, 52);
        sequence = harness.Add(new SequenceData(geometry, 1, 1));
        AppendTokens(harness, sequence, keys, values, 0, tokens);
        harness.Seal(sequence);
        return harness;
    }

    // The page is sealed to the oracle's bits; or, if an element is no number or a scale is beyond binary16, still open and unchanged. With a number beyond
    // 65536, which only an append that accepts everything takes, both are right.
    private static void AssertSealed(TierHarness harness, PageEntry entry, float[][] keys, float[][] values, string where)
    {
        PageLayout layout = harness.Shape.Classes[KernelShape.Sealed];
        PartCodes expectedKeys = PartOracle.Encode(layout.KeyFormat, keys, false, AttentionCase.RotationSeed, layout.HasDigest);
        PartCodes expectedValues = PartOracle.Encode(layout.ValueFormat, values, false, AttentionCase.RotationSeed, false);
        DecodedPage page = harness.Decode(entry.Slot, entry.PageClass, keys.Length);
        float[] elements = [.. keys.Concat(values).SelectMany(v => v)];
        bool isHeld = expectedKeys.IsHeld && expectedValues.IsHeld && elements.All(float.IsFinite);
        bool isSealed = entry.PageClass == KernelShape.Sealed;
        bool isFree = isHeld && elements.Any(x => MathF.Abs(x) > 65536f);
        Assert.True(isFree || isSealed == isHeld, $"{where}: sealed is {isSealed}, a class that holds it is {isHeld}");
        if (isSealed)
        {
            Expect.SameCodes(expectedKeys, page.KeyCodes, $"keys of {where}");
            Expect.SameCodes(expectedValues, page.ValueCodes, $"values of {where}");
        }
        else
        {
            Assert.Equal(keys.Select(k => k.Select(x => (double)x)), page.Keys);
            Assert.Equal(values.Select(v => v.Select(x => (double)x)), page.Values);
        }
    }

    private static (int Head, PageEntry Entry)[] SealedEntries(HarnessSequence sequence)
    {
        (int, PageEntry)[] entries = [.. from head in Enumerable.Range(0, 2)
                                         from entry in sequence.Rows[0, head]
                                         where entry.PageClass == KernelShape.Sealed
                                         select (head, entry)];
        Assert.NotEmpty(entries);
        return entries;
    }

    // The vectors of a page out of [tokens][2 heads][width], as its open page held them.
    private static float[][] Page(float[] vectors, int head, int pageIndex, int pageTokens, int width, PageFormat open) =>
        [.. Enumerable.Range(pageIndex * pageTokens, pageTokens).Select(t => Vector(vectors, (t * 2) + head, width, open))];

    private static float[] Vector(float[] vectors, int vector, int width, PageFormat open) =>
        [.. vectors.Skip(vector * width).Take(width).Select(x => PageBytes.Rounded(open, x))];

    // Only for formats with steps: I8, and V4 if the codes of a group reach both its ends.
    private static void AssertHalfAStep(float[][] plain, PartCodes codes, double[][] stored)
    {
        if (codes.Format is not (PageFormat.I8 or PageFormat.V4))
        {
            return;
        }

        int group = codes.Format.ScaleGroup(plain[0].Length);
        for (int t = 0; t < plain.Length; t++)
        {
            double[] rotated = HadamardMatrix.Apply([.. plain[t].Select(x => (double)x)], Rotation.Signs(plain[t].Length, AttentionCase.RotationSeed));
            for (int e = 0; e < rotated.Length; e++)
            {
                double step = (double)codes.Scales[t][codes.Format == PageFormat.I8 ? 0 : 2 * (e / group)];
                Assert.InRange(Math.Abs(stored[t][e] - rotated[e]), 0, step * 0.5001);
            }
        }
    }
}
