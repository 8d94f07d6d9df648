using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>I8: the same codes and scales on every tier, within half a step of the rotated vector.</summary>
public abstract partial class PageConformance<TTier>
{
    public static TheoryData<PageFormat, int, int, int> EncodeCases() => new()
    {
        { PageFormat.F32, 8, 8, 5 },
        { PageFormat.F16, 48, 64, 16 },
        { PageFormat.BF16, 64, 48, 5 },
        { PageFormat.F32, 80, 96, 16 },
        { PageFormat.F16, 128, 128, 64 },
        { PageFormat.F32, 192, 128, 5 },
        { PageFormat.BF16, 256, 256, 5 },
        { PageFormat.F16, 576, 512, 16 },
        { PageFormat.F32, 12, 36, 5 },
        { PageFormat.F32, 64, 64, 1 },
    };

    [Theory]
    [MemberData(nameof(EncodeCases))]
    public void Codes_and_scales_are_the_oracles_bit_for_bit(PageFormat open, int keyWidth, int valueWidth, int pageTokens)
    {
        using TierHarness harness = SealedRows(open, keyWidth, valueWidth, pageTokens, out HarnessSequence sequence, out float[] keys, out float[] values);
        foreach ((int head, PageEntry entry) in SealedEntries(sequence))
        {
            DecodedPage page = harness.Decode(entry.Slot, KernelShape.Sealed, pageTokens);
            for (int t = 0; t < pageTokens; t++)
            {
                int vector = (((entry.PageIndex * pageTokens) + t) * 2) + head;
                AssertEncoded(Row(keys, vector, keyWidth, open), page.StoredKeys[t], page.KeyScale(t), $"key {vector}");
                AssertEncoded(Row(values, vector, valueWidth, open), page.StoredValues[t], page.ValueScale(t), $"value {vector}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(EncodeCases))]
    public void Encoded_vectors_are_within_half_a_step_in_the_rotated_basis(PageFormat open, int keyWidth, int valueWidth, int pageTokens)
    {
        using TierHarness harness = SealedRows(open, keyWidth, valueWidth, pageTokens, out HarnessSequence sequence, out float[] keys, out float[] values);
        foreach ((int head, PageEntry entry) in SealedEntries(sequence))
        {
            DecodedPage page = harness.Decode(entry.Slot, KernelShape.Sealed, pageTokens);
            for (int t = 0; t < pageTokens; t++)
            {
                int vector = (((entry.PageIndex * pageTokens) + t) * 2) + head;
                AssertHalfAStep(Row(keys, vector, keyWidth, open), page.StoredKeys[t], page.KeyScale(t));
                AssertHalfAStep(Row(values, vector, valueWidth, open), page.StoredValues[t], page.ValueScale(t));
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.I8, PageFormat.F16)]
    [InlineData(PageFormat.F16, PageFormat.I8)]
    public void A_page_sealed_in_two_formats_encodes_one_part_and_keeps_the_bits_of_the_other(PageFormat key, PageFormat value)
    {
        var geometry = new KvGeometry(1, 2, 1, 48, 80, pageTokens: 5);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F16, PageFormat.F16, key, value);
        using var harness = new TierHarness(TTier.Create, shape, 40);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 12, 80));
        harness.Fill(sequence, 12);
        DecodedPage page = harness.Decode(sequence.Rows[0, 0][0].Slot, KernelShape.Sealed, 5);
        Assert.Equal(KernelShape.Sealed, sequence.Rows[0, 0][0].PageClass);
        for (int t = 0; t < 5; t++)
        {
            float[] k = Row(sequence.Data.Keys[0], t, 48, PageFormat.F16);
            float[] v = Row(sequence.Data.Values[0], t, 80, PageFormat.F16);
            if (key == PageFormat.I8)
            {
                AssertEncoded(k, page.StoredKeys[t], page.KeyScale(t), $"key {t}");
                Assert.Equal(v.Select(x => (double)x), page.StoredValues[t]);
            }
            else
            {
                AssertEncoded(v, page.StoredValues[t], page.ValueScale(t), $"value {t}");
                Assert.Equal(k.Select(x => (double)x), page.StoredKeys[t]);
            }
        }
    }

    // Two heads of hard vectors, long enough that two pages of each are sealed.
    private static TierHarness SealedRows(
        PageFormat open, int keyWidth, int valueWidth, int pageTokens, out HarnessSequence sequence, out float[] keys, out float[] values)
    {
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
        var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, open), 100);
        int tokens = Math.Max(3, 24 / pageTokens) * pageTokens;
        keys = HardVectors.Rows(tokens, 2, keyWidth, 51);
        values = HardVectors.Rows(tokens, 2, valueWidth, 52);
        sequence = harness.Add(new SequenceData(geometry, 1, 1));
        AppendRows(harness, sequence, keys, values, 0, tokens);
        harness.Seal(sequence);
        return harness;
    }

    private static (int Head, PageEntry Entry)[] SealedEntries(HarnessSequence sequence)
    {
        (int, PageEntry)[] entries = [.. from head in Enumerable.Range(0, 2)
                                         from entry in sequence.Rows[0, head]
                                         where entry.PageClass == KernelShape.Sealed
                                         select (head, entry)];
        Assert.True(entries.Length >= 4);
        return entries;
    }

    private static float[] Row(float[] rows, int vector, int width, PageFormat open) =>
        [.. rows.Skip(vector * width).Take(width).Select(x => PageBytes.Rounded(open, x))];

    private static void AssertEncoded(float[] plain, double[] stored, double scale, string where)
    {
        (sbyte[] codes, Half expected) = Int8Oracle.Encode(plain, AttentionCase.RotationSeed);
        Assert.True((double)expected == scale, $"{where}: expected a scale of {expected}, got {scale}");
        Assert.Equal(codes, stored.Select(x => (sbyte)Math.Round(x / scale)));
    }

    private static void AssertHalfAStep(float[] plain, double[] stored, double scale)
    {
        double[] rotated = HadamardMatrix.Apply([.. plain.Select(x => (double)x)], Rotation.Signs(plain.Length, AttentionCase.RotationSeed));
        for (int e = 0; e < rotated.Length; e++)
        {
            Assert.InRange(Math.Abs(stored[e] - rotated[e]), 0, scale * 0.5001);
        }
    }
}
