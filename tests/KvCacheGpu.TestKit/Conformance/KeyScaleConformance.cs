using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Keys of T formats under key scales, which no other format knows: codes, attention, and every way back to the plain basis.</summary>
public abstract partial class KeyScaleConformance<TTier>
    where TTier : ITierUnderTest
{
    private static readonly (int Key, int Value, int PageTokens)[] Widths = [(64, 128, 16), (128, 64, 5), (80, 48, 5), (8, 24, 3)];

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.F16, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.BF16, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.F16, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.I8, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.I8, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.I8, PageFormat.T2, PageFormat.I8)]
    [InlineData(PageFormat.T4, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T3, PageFormat.T2, PageFormat.V2)]
    public void Codes_under_key_scales_are_the_oracles_bit_for_bit(PageFormat key, PageFormat toKey, PageFormat toValue)
    {
        foreach ((int keyWidth, int valueWidth, int pageTokens) in Widths)
        {
            using TierHarness harness = Sealed(key, toKey, toValue, new KvGeometry(1, 3, 3, keyWidth, valueWidth, pageTokens), out HarnessSequence sequence);
            for (int head = 0; head < 3; head++)
            {
                PageEntry source = sequence.Rows[0, head][1];
                int target = harness.TakeSlot(), keyRow = harness.KeyRow(sequence, 0, head);
                bool[] kept = [true];
                harness.Tier.Transcode([new PageMove(source.Slot, source.PageClass, target, 2, pageTokens, KeyRow: keyRow)], kept);
                PartCodes old = harness.Decode(source.Slot, source.PageClass, pageTokens).KeyCodes;
                float[][] vectors = [.. Enumerable.Range(0, pageTokens).Select(t => PartOracle.Decode(old, t))];
                PartCodes expected = PartOracle.Encode(toKey, old.Format, vectors, harness.Exponents(keyRow), AttentionCase.RotationSeed, hasDigest: true);
                Assert.False(kept[0]);
                Expect.SameCodes(expected, harness.Decode(target, 2, pageTokens).KeyCodes, $"keys of width {keyWidth}, head {head}");
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T2, PageFormat.I8)]
    public void A_page_comes_back_to_the_plain_basis(PageFormat key, PageFormat value)
    {
        foreach ((int keyWidth, int valueWidth, int pageTokens) in Widths)
        {
            using TierHarness harness = Sealed(key, key, value, new KvGeometry(1, 3, 3, keyWidth, valueWidth, pageTokens), out HarnessSequence sequence);
            for (int head = 0; head < 3; head++)
            {
                int slot = sequence.Rows[0, head][0].Slot, keyRow = harness.KeyRow(sequence, 0, head), reopened = harness.TakeSlot();
                DecodedPage page = harness.Decode(slot, KernelShape.Sealed, pageTokens, keyRow);
                long word = harness.ScoreWord(sequence, 0, head, 0);
                harness.Tier.Load(word, new int[TableMap.ScoreWords]);
                harness.Tier.Transcode([new PageMove(slot, KernelShape.Sealed, reopened, KernelShape.Open, pageTokens, word, keyRow)]);
                (float[] keys, float[] values) = (new float[pageTokens * keyWidth], new float[pageTokens * valueWidth]);
                harness.Tier.Materialize([new PageRead(slot, KernelShape.Sealed, pageTokens, 0, 1, keyRow)], keys, values);
                double[][] plain = harness.Decode(reopened, KernelShape.Open, pageTokens).Keys;
                for (int t = 0; t < pageTokens; t++)
                {
                    Near(page.Keys[t], keys.AsSpan(t * keyWidth, keyWidth), harness.Exponents(keyRow), $"key {t} of width {keyWidth}");
                    Near(page.Keys[t], [.. plain[t].Select(x => (float)x)], harness.Exponents(keyRow), $"reopened key {t} of width {keyWidth}");
                    Expect.Near(page.Values[t], values.AsSpan(t * valueWidth, valueWidth), 1e-6, $"value {t} of width {valueWidth}");
                }

                double square = page.Keys.Average(k => k.Sum(x => x * x));
                Assert.InRange(harness.ReadScores(sequence, 0, head, 0).KeySquare, square * (1 - 1e-4), square * (1 + 1e-4));
            }
        }
    }

    [Fact]
    public void Scales_of_all_zeros_change_no_bit()
    {
        var geometry = new KvGeometry(1, 4, 2, 64, pageTokens: 5);
        using TierHarness never = Filled(geometry, _ => { }, out HarnessSequence expected);
        using TierHarness zeros = Filled(
            geometry,
            harness =>
            {
                harness.SetKeyScales(0, Random(geometry, 7));
                harness.SetKeyScales(1, Random(geometry, 8));
                harness.SetKeyScales(0, KvKeyScales.None(geometry));
            },
            out HarnessSequence got);
        for (int page = 0; page < 4; page++)
        {
            PageEntry entry = expected.Rows[0, 1][page];
            Assert.Equal(entry.PageClass, got.Rows[0, 1][page].PageClass);
            PartCodes codes = zeros.Decode(got.Rows[0, 1][page].Slot, entry.PageClass, 5).KeyCodes;
            Expect.SameCodes(never.Decode(entry.Slot, entry.PageClass, 5).KeyCodes, codes, $"page {page}");
        }

        never.Begin((expected, 2));
        never.Append(0);
        zeros.Begin((got, 2));
        zeros.Append(0);
        Assert.Equal(never.Attend(0).Output, zeros.Attend(0).Output);
    }

    [Fact]
    public void Keys_that_scales_take_beyond_binary16_stay_as_they_are()
    {
        var geometry = new KvGeometry(1, 2, 2, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F16, [(PageFormat.T4, PageFormat.V4)]), 60);
        harness.SetKeyScales(0, new KvKeyScales(geometry, [.. Enumerable.Range(0, 128).Select(i => (byte)(i < 64 ? 15 : 0))]));
        var data = new SequenceData(geometry, 12, 61);
        data.Keys[0] = [.. data.Keys[0].Select((_, i) => i % 3 == 0 ? -60f : 60f)];
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 10);
        Assert.Equal(KernelShape.Open, sequence.Rows[0, 0][0].PageClass);
        Assert.Equal(KernelShape.Sealed, sequence.Rows[0, 1][0].PageClass);
        Assert.Equal(Math.Abs((double)60f), Math.Abs(harness.Decode(sequence.Rows[0, 0][0].Slot, KernelShape.Open, 5).Keys[3][7]));
        harness.Begin((sequence, 2));
        harness.Append(0);
        Expect.MatchesOracleAsRounded(harness, harness.Queries(0), harness.Attend(0), sequence);
    }

    [Fact]
    public void Tables_that_do_not_fit_are_refused()
    {
        var geometry = new KvGeometry(1, 2, 2, 64, pageTokens: 5);
        foreach (PageFormat format in new[] { PageFormat.T4, PageFormat.I8 })
        {
            using KernelTier tier = new TierHarness(TTier.Create, Shapes.Mixed(geometry, PageFormat.F16, format, PageFormat.I8), 20).Tier;
            Assert.Throws<ArgumentException>("scales", () => tier.SetKeyScales(0, KvKeyScales.None(new KvGeometry(1, 2, 2, 128))));
            Assert.Throws<ArgumentOutOfRangeException>("table", () => tier.SetKeyScales(KernelTier.KeyTables, KvKeyScales.None(geometry)));
            Assert.Throws<ArgumentNullException>("scales", () => tier.SetKeyScales(0, null!));
            tier.SetKeyScales(1, Random(geometry, 3));
        }
    }

    // Two pages of each of three heads sealed in one format, under a table that leaves the second head as it is; class 2 is another one.
    private static TierHarness Sealed(PageFormat key, PageFormat toKey, PageFormat toValue, KvGeometry geometry, out HarnessSequence sequence)
    {
        PageFormat value = key.IsCentered() ? PageFormat.V4 + (key - PageFormat.T4) : key;
        PageFormat open = key.IsFullPrecision() ? key : PageFormat.F32;
        var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, open, [(key, value), (toKey, toValue)]), 80);
        harness.SetKeyScales(0, Random(geometry, 5));
        harness.SetKeyScales(1, Random(geometry, 6));
        sequence = harness.Add(new SequenceData(geometry, 3 * geometry.PageTokens, 62));
        sequence.KeyTable = 1;
        harness.Fill(sequence, 3 * geometry.PageTokens);
        Assert.Equal(KernelShape.Sealed, sequence.Rows[0, 2][1].PageClass);
        return harness;
    }

    // A row of pages in full precision, I8 and T formats.
    private static TierHarness Filled(KvGeometry geometry, Action<TierHarness> setScales, out HarnessSequence sequence)
    {
        (PageFormat, PageFormat)[] pairs = [(PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T3, PageFormat.V3)];
        var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F16, pairs), 80);
        setScales(harness);
        sequence = harness.Add(new SequenceData(geometry, 27, 63));
        harness.Fill(sequence, 25);
        for (int head = 0; head < geometry.KvHeads; head++)
        {
            harness.Demote(sequence, 0, head, 1, 2);
            harness.Demote(sequence, 0, head, 2, 3);
        }

        return harness;
    }

    // Exponents up to a most; those of every third row, from the second, are all 0.
    private static KvKeyScales Random(KvGeometry geometry, int seed, int most = 6)
    {
        var random = new Random(seed);
        int rows = geometry.Layers * geometry.KvHeads;
        return new KvKeyScales(geometry, [.. Enumerable.Range(0, rows * geometry.KeyWidth).Select(i => (byte)(i / geometry.KeyWidth % 3 == 1 ? 0 : random.Next(most + 1)))]);
    }

    // Errors are of the scaled key.
    private static void Near(double[] expected, ReadOnlySpan<float> got, byte[] exponents, string where) => Expect.Near(
        [.. expected.Zip(exponents, (x, exponent) => Math.ScaleB(x, exponent))],
        [.. got.ToArray().Zip(exponents, (x, exponent) => MathF.ScaleB(x, exponent))],
        1e-6,
        where);
}
