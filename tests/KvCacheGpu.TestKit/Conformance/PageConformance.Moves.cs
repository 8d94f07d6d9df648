using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Pages written from pages, and pages read back.</summary>
public abstract partial class PageConformance<TTier>
{
    /// <summary>Every pair, with widths that it takes and the open formats by turns.</summary>
    public static TheoryData<PageFormat, PageFormat, PageFormat, int> MoveCases()
    {
        var cases = new TheoryData<PageFormat, PageFormat, PageFormat, int>();
        for (int i = 0; i < FormatPairs.All.Length; i++)
        {
            (PageFormat key, PageFormat value) = FormatPairs.All[i];
            cases.Add(FormatPairs.OpenFor(FormatPairs.All[i], i), key, value, 1 + (i % 5));
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(MoveCases))]
    public void A_copy_within_a_class_keeps_every_bit_of_its_tokens(PageFormat open, PageFormat key, PageFormat value, int tokens)
    {
        using TierHarness harness = TwoHeads(open, key, value, 14, out HarnessSequence sequence);
        int[] targets = [.. Enumerable.Range(0, 4).Select(_ => harness.TakeSlot())];
        PageEntry[] sources = [.. Enumerable.Range(0, 2).SelectMany(head => new[] { sequence.Rows[0, head][0], sequence.Rows[0, head][1] })];
        harness.Tier.Transcode([.. sources.Select((e, i) => new PageMove(e.Slot, e.PageClass, targets[i], e.PageClass, tokens))]);
        Assert.Contains(sources, e => e.PageClass == KernelShape.Sealed);
        Assert.Contains(sources, e => e.PageClass == KernelShape.Open);
        for (int i = 0; i < sources.Length; i++)
        {
            DecodedPage source = harness.Decode(sources[i].Slot, sources[i].PageClass, tokens);
            DecodedPage target = harness.Decode(targets[i], sources[i].PageClass, tokens);
            Assert.Equal(source.KeyCodes.Codes, target.KeyCodes.Codes);
            Assert.Equal(source.KeyCodes.Scales, target.KeyCodes.Scales);
            Assert.Equal(source.ValueCodes.Codes, target.ValueCodes.Codes);
            Assert.Equal(source.ValueCodes.Scales, target.ValueCodes.Scales);
            if (sources[i].PageClass == KernelShape.Sealed)
            {
                Assert.Equal(source.KeyCodes.Mean, target.KeyCodes.Mean);
                Assert.Equal(source.KeyCodes.Deviation, target.KeyCodes.Deviation);
            }
        }
    }

    [Theory]
    [MemberData(nameof(MoveCases))]
    public void A_reopened_page_holds_what_the_sealed_one_decodes_to(PageFormat open, PageFormat key, PageFormat value, int tokens)
    {
        double bound = open switch { PageFormat.F32 => 1e-6, PageFormat.F16 => 6e-4, _ => 5e-3 };
        using TierHarness harness = TwoHeads(open, key, value, 14, out HarnessSequence sequence);
        int target = harness.TakeSlot();
        harness.Tier.Transcode([new PageMove(sequence.Rows[0, 1][0].Slot, KernelShape.Sealed, target, KernelShape.Open, tokens)]);
        DecodedPage source = harness.Decode(sequence.Rows[0, 1][0].Slot, KernelShape.Sealed, tokens);
        DecodedPage reopened = harness.Decode(target, KernelShape.Open, tokens);
        for (int t = 0; t < tokens; t++)
        {
            Expect.Near(source.Keys[t], Singles(reopened.Keys[t]), bound, $"key {t}");
            Expect.Near(source.Values[t], Singles(reopened.Values[t]), bound, $"value {t}");
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F16)]
    [InlineData(PageFormat.F32, PageFormat.BF16)]
    [InlineData(PageFormat.F16, PageFormat.F32)]
    [InlineData(PageFormat.BF16, PageFormat.F16)]
    public void Between_full_precision_formats_a_page_is_rounded_to_nearest(PageFormat open, PageFormat sealedFormat)
    {
        var geometry = new KvGeometry(1, 1, 1, 48, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, open, sealedFormat, sealedFormat), 20);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 11, 92));
        harness.Fill(sequence, 11);
        DecodedPage page = harness.Decode(sequence.Rows[0, 0][0].Slot, KernelShape.Sealed, 5);
        for (int t = 0; t < 5; t++)
        {
            Assert.Equal(Vector(sequence.Data.Keys[0], t, 48, open).Select(x => (double)PageBytes.Rounded(sealedFormat, x)), page.Keys[t]);
            Assert.Equal(Vector(sequence.Data.Values[0], t, 48, open).Select(x => (double)PageBytes.Rounded(sealedFormat, x)), page.Values[t]);
        }
    }

    [Theory]
    [MemberData(nameof(MoveCases))]
    public void Materialize_gives_the_plain_basis_back_token_by_token(PageFormat open, PageFormat key, PageFormat value, int pages)
    {
        int length = 13 + pages;
        using TierHarness harness = TwoHeads(open, key, value, length, out HarnessSequence sequence);
        PageRead[] reads = [.. from head in Enumerable.Range(0, 2)
                               from e in sequence.Rows[0, head]
                               let first = e.PageIndex * 5
                               select new PageRead(e.Slot, e.PageClass, Math.Min(5, length - first), (first * 2) + head, 2)];
        (int keyWidth, int valueWidth) = (harness.Shape.Geometry.KeyWidth, harness.Shape.Geometry.ValueWidth);
        (float[] keys, float[] values) = (new float[length * 2 * keyWidth], new float[length * 2 * valueWidth]);
        (float[] onlyKeys, float[] onlyValues) = (new float[keys.Length], new float[values.Length]);
        harness.Tier.Materialize(reads, keys, values);
        harness.Tier.Materialize(reads, onlyKeys, default);
        harness.Tier.Materialize(reads, default, onlyValues);
        Assert.Equal(keys, onlyKeys);
        Assert.Equal(values, onlyValues);
        for (int head = 0; head < 2; head++)
        {
            foreach (PlacedPage placed in harness.DecodeRow(sequence, 0, head))
            {
                for (int t = 0; t < placed.Page.Keys.Length; t++)
                {
                    int vector = (((placed.PageIndex * 5) + t) * 2) + head;
                    Expect.Near(placed.Page.Keys[t], keys.AsSpan(vector * keyWidth, keyWidth), 1e-6, $"key {vector}");
                    Expect.Near(placed.Page.Values[t], values.AsSpan(vector * valueWidth, valueWidth), 1e-6, $"value {vector}");
                }
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    public void A_page_of_the_largest_numbers_is_finite_once_reopened(PageFormat open)
    {
        var geometry = new KvGeometry(1, 1, 1, 64, pageTokens: 4);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, open), 20);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 1, 1));
        var extremes = new float[4 * 64];
        for (int i = 0; i < extremes.Length; i++)
        {
            extremes[i] = i % 3 == 0 ? 65504f : -65504f;
        }

        harness.Begin((sequence, 4));
        harness.Append(0, extremes, extremes);
        Assert.Null(harness.End());
        (int source, int closed, int back) = (sequence.Rows[0, 0][0].Slot, harness.TakeSlot(), harness.TakeSlot());
        harness.Tier.Transcode([new PageMove(source, KernelShape.Open, closed, KernelShape.Sealed, 4)]);
        harness.Tier.Transcode([new PageMove(closed, KernelShape.Sealed, back, KernelShape.Open, 4)]);
        DecodedPage page = harness.Decode(back, KernelShape.Open, 4);
        for (int t = 0; t < 4; t++)
        {
            Expect.Near([.. extremes.AsSpan(t * 64, 64).ToArray().Select(x => (double)x)], Singles(page.Keys[t]), 0.02, $"key {t}");
            Expect.Near([.. extremes.AsSpan(t * 64, 64).ToArray().Select(x => (double)x)], Singles(page.Values[t]), 0.02, $"value {t}");
        }
    }

    [Fact]
    public void Words_loaded_are_read_back()
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(new KvGeometry(1, 1, 1, 8), PageFormat.F32), 3);
        int[] words = [.. Enumerable.Range(0, 100).Select(i => i * 7919)];
        long at = ((long)harness.TakeSlot() * PageLayout.UnitWords) + 3;
        harness.Tier.Load(at, words);
        var back = new int[100];
        harness.Tier.Read(at, back);
        Assert.Equal(words, back);
    }

    // Two heads of ordinary vectors in pages of five tokens; ggml's formats take other widths than the rest.
    private static TierHarness TwoHeads(PageFormat open, PageFormat key, PageFormat value, int tokens, out HarnessSequence sequence)
    {
        (int keyWidth, int valueWidth) = (key.Takes(80) ? 80 : 96, value.Takes(48) ? 48 : 64);
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens: 5);
        var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, open, key, value), 60);
        sequence = harness.Add(new SequenceData(geometry, tokens, 90));
        harness.Fill(sequence, tokens);
        return harness;
    }

    private static float[] Singles(double[] vector) => [.. vector.Select(x => (float)x)];
}
