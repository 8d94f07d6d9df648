using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Every 16-bit pattern through every format. A pattern that is no number is refused or kept.</summary>
public abstract partial class PageConformance<TTier>
{
    private const int PatternWidth = 64;
    private const int PatternTokens = 65536 / PatternWidth;

    public static TheoryData<PageFormat, PageFormat, bool> PatternCases()
    {
        var cases = new TheoryData<PageFormat, PageFormat, bool>();
        foreach ((PageFormat key, PageFormat value) in FormatPairs.Natural)
        {
            cases.Add(key, value, false);
            cases.Add(key, value, true);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(PatternCases))]
    public void Where_everything_is_kept_a_page_with_what_is_no_number_stays_open_and_the_others_are_sealed(
        PageFormat key, PageFormat value, bool isBrain)
    {
        float[] patterns = [.. Patterns(isBrain), .. new float[4096]];
        using TierHarness harness = PatternHarness(key, value, isBrain, keeps: true, out HarnessSequence sequence);
        harness.Begin((sequence, PatternTokens + 64));
        harness.Append(0, patterns, patterns);
        Assert.Null(harness.End());
        harness.Seal(sequence);
        int[] open = AssertPages(harness, sequence, patterns);
        Assert.Contains(7, open);
        Assert.Contains(15, open);
        Assert.DoesNotContain(1, open);
    }

    [Theory]
    [MemberData(nameof(PatternCases))]
    public void Where_nothing_is_kept_what_is_no_number_is_refused_and_all_others_in_any_order_are_sealed(PageFormat key, PageFormat value, bool isBrain)
    {
        using TierHarness harness = PatternHarness(key, value, isBrain, keeps: false, out HarnessSequence sequence);
        float[] patterns = Patterns(isBrain), zeros = new float[65536];
        int first = Array.FindIndex(patterns, x => !IsTaken(harness.Shape.KeyRefusedFrom, x)) / PatternWidth;
        foreach (bool isValue in new[] { false, true })
        {
            harness.Begin((isValue ? harness.Add(sequence.Data) : sequence, PatternTokens));
            harness.Append(0, isValue ? zeros : patterns, isValue ? patterns : zeros);
            Assert.Equal(new NonFinite(0, first, 0, isValue), harness.End());
        }

        float[] taken = [.. Enumerable.Range(0, 65536).Select(i => patterns[(i * 40503) & 0xFFFF])
            .Select(x => IsTaken(harness.Shape.KeyRefusedFrom, x) ? x : 0)];
        HarnessSequence ordinary = harness.Add(new SequenceData(harness.Shape.Geometry, 1, 2));
        float[] padded = [.. taken, .. new float[4096]];
        harness.Begin((ordinary, PatternTokens + 64));
        harness.Append(0, padded, padded);
        Assert.Null(harness.End());
        harness.Seal(ordinary);
        AssertPages(harness, ordinary, padded);
    }

    [Theory]
    [InlineData(PageFormat.I8, PageFormat.V4, 1e6f)]
    [InlineData(PageFormat.T4, PageFormat.V4, 1e6f)]
    [InlineData(PageFormat.T2, PageFormat.V2, 1e8f)]
    [InlineData(PageFormat.I8, PageFormat.I8, 1e12f)]
    [InlineData(PageFormat.Q8, PageFormat.Q8, 1e9f)]
    [InlineData(PageFormat.Q4, PageFormat.Q4, 1e7f)]
    [InlineData(PageFormat.F32, PageFormat.F32, float.NaN)]
    [InlineData(PageFormat.FP8, PageFormat.FP8, float.NegativeInfinity)]
    public void A_page_whose_scale_is_beyond_its_format_is_kept_and_its_neighbours_are_not(PageFormat key, PageFormat value, float large)
    {
        var geometry = new KvGeometry(1, 1, 1, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F32, key, value, keepsNonFinite: true), 30);
        var data = new SequenceData(geometry, 20, 71);
        (float[] keys, float[] values) = ([.. data.Keys[0]], [.. data.Values[0]]);
        values[(7 * 64) + 3] = large;
        if (key != PageFormat.I8)
        {
            keys[(2 * 64) + 60] = -large;
        }

        HarnessSequence sequence = harness.Add(data);
        harness.Begin((sequence, 20));
        harness.Append(0, keys, values);
        Assert.Null(harness.End());
        harness.Seal(sequence);
        int[] expected = key == PageFormat.I8 ? [1, 3] : [0, 1, 3];
        Assert.Equal(expected, sequence.Rows[0, 0].Where(e => e.PageClass == KernelShape.Open).Select(e => e.PageIndex));
        for (int page = 0; page < 3; page++)
        {
            AssertSealed(harness, sequence.Rows[0, 0][page], OnePage(keys, page, 5, 64), OnePage(values, page, 5, 64), $"page {page}");
        }
    }

    private static TierHarness PatternHarness(PageFormat key, PageFormat value, bool isBrain, bool keeps, out HarnessSequence sequence)
    {
        var geometry = new KvGeometry(1, 1, 1, PatternWidth, pageTokens: 64);
        PageFormat open = FormatPairs.OpenFor((key, value), isBrain ? 0 : 1);
        var harness = new TierHarness(
            TTier.Create, Shapes.Mixed(geometry, open, key, value, keepsNonFinite: keeps), 80, maxTokens: PatternTokens + 64);
        sequence = harness.Add(new SequenceData(geometry, 1, 1));
        return harness;
    }

    private static float[] Patterns(bool isBrain) => [.. Enumerable.Range(0, 65536).Select(
        i => isBrain ? BitConverter.UInt32BitsToSingle((uint)i << 16) : (float)BitConverter.UInt16BitsToHalf((ushort)i))];

    private static bool IsTaken(uint refusedFrom, float x) => (BitConverter.SingleToUInt32Bits(x) & 0x7FFFFFFF) < refusedFrom;

    // Compares sixteen pages with the oracle; tells which of them are still open.
    private static int[] AssertPages(TierHarness harness, HarnessSequence sequence, float[] tokens)
    {
        PageFormat open = harness.Shape.Classes[KernelShape.Open].KeyFormat;
        float[] stored = [.. tokens.Select(x => PageBytes.Rounded(open, x))];
        for (int page = 0; page < 16; page++)
        {
            float[][] vectors = OnePage(stored, page, 64, PatternWidth);
            AssertSealed(harness, sequence.Rows[0, 0][page], vectors, vectors, $"page {page}");
        }

        return [.. sequence.Rows[0, 0].Where(e => e.PageClass == KernelShape.Open).Select(e => e.PageIndex)];
    }

    private static float[][] OnePage(float[] vectors, int page, int tokens, int width) =>
        [.. vectors.AsSpan(page * tokens * width, tokens * width).ToArray().Chunk(width)];
}
