using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Pages that are sealed in place, and pages that are demoted to a smaller format.</summary>
public abstract partial class PageConformance<TTier>
{
    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.F32, PageFormat.F32, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.BF16, PageFormat.BF16, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.F16, PageFormat.F16, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.I8, PageFormat.V4)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.T4, PageFormat.I8)]
    [InlineData(PageFormat.I8, PageFormat.I8, PageFormat.I8, PageFormat.V4)]
    [InlineData(PageFormat.I8, PageFormat.V4, PageFormat.I8, PageFormat.V2)]
    [InlineData(PageFormat.T4, PageFormat.I8, PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.T4, PageFormat.V4, PageFormat.T3, PageFormat.V3)]
    [InlineData(PageFormat.T4, PageFormat.V4, PageFormat.T2, PageFormat.V2)]
    [InlineData(PageFormat.T3, PageFormat.V3, PageFormat.T2, PageFormat.V2)]
    public void A_demoted_page_is_the_oracles_encoding_of_what_it_was(PageFormat key, PageFormat value, PageFormat toKey, PageFormat toValue)
    {
        foreach ((int keyWidth, int valueWidth, int pageTokens, int tokens) in new[] { (64, 128, 16, 16), (80, 48, 5, 5), (8, 24, 5, 3) })
        {
            var geometry = new KvGeometry(1, 1, 1, keyWidth, valueWidth, pageTokens);
            KernelShape shape = Shapes.Classes(geometry, FormatPairs.OpenFor((key, value), 0), [(key, value), (toKey, toValue)]);
            using var harness = new TierHarness(TTier.Create, shape, 20);
            HarnessSequence sequence = harness.Add(new SequenceData(geometry, 3 * pageTokens, 95));
            harness.Fill(sequence, 3 * pageTokens);
            PageEntry source = sequence.Rows[0, 0][1];
            int target = harness.TakeSlot();
            byte[] before = harness.ReadBytes(source.Slot, KernelShape.Sealed);
            bool[] kept = [true];
            harness.Tier.Transcode([new PageMove(source.Slot, KernelShape.Sealed, target, 2, tokens)], kept);
            DecodedPage old = harness.Decode(source.Slot, KernelShape.Sealed, tokens);
            DecodedPage demoted = harness.Decode(target, 2, tokens);
            Assert.False(kept[0]);
            Assert.Equal(before, harness.ReadBytes(source.Slot, KernelShape.Sealed));
            Expect.SameCodes(Demoted(old.KeyCodes, toKey, hasDigest: true), demoted.KeyCodes, $"keys of width {keyWidth}");
            Expect.SameCodes(Demoted(old.ValueCodes, toValue, hasDigest: false), demoted.ValueCodes, $"values of width {valueWidth}");
        }
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.BF16)]
    public void A_page_sealed_where_it_lies_gains_its_digest_and_nothing_else(PageFormat format)
    {
        var geometry = new KvGeometry(1, 2, 2, 48, 80, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 10, 96));
        harness.Begin((sequence, 10));
        harness.Append(0);
        Assert.Null(harness.End());
        PageLayout layout = harness.Shape.Classes[KernelShape.Sealed];
        PageEntry[] open = [sequence.Rows[0, 0][0], sequence.Rows[0, 1][0]];
        byte[][] before = [.. open.Select(e => harness.ReadBytes(e.Slot, KernelShape.Open)[..(layout.DigestOffset * 4)])];
        harness.Seal(sequence);
        for (int head = 0; head < 2; head++)
        {
            PageEntry entry = sequence.Rows[0, head][0];
            Assert.Equal(open[head] with { PageClass = KernelShape.Sealed }, entry);
            Assert.Equal(before[head], harness.ReadBytes(entry.Slot, KernelShape.Sealed)[..(layout.DigestOffset * 4)]);
            AssertSealed(
                harness,
                entry,
                Page(sequence.Data.Keys[0], head, 0, 5, 48, format),
                Page(sequence.Data.Values[0], head, 0, 5, 80, format),
                $"head {head}");
        }
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    public void A_page_of_one_layout_gets_its_digest_from_its_keys_when_it_was_open_and_keeps_it_when_it_was_sealed(PageFormat format)
    {
        var geometry = new KvGeometry(1, 1, 1, 48, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 5, 97));
        harness.Begin((sequence, 5));
        harness.Append(0);
        harness.End();
        PageLayout layout = harness.Shape.Classes[KernelShape.Sealed];
        int source = sequence.Rows[0, 0][0].Slot;
        int[] digest = [.. Enumerable.Repeat(0x3C003C00, layout.DigestStride)];
        harness.Tier.Load(((long)source * PageLayout.UnitWords) + layout.DigestOffset, digest);
        (int fresh, int copied) = (harness.TakeSlot(), harness.TakeSlot());
        harness.Tier.Transcode(
            [new PageMove(source, KernelShape.Open, fresh, KernelShape.Sealed, 5), new PageMove(source, KernelShape.Sealed, copied, KernelShape.Sealed, 5)]);
        float[][] keys = Page(sequence.Data.Keys[0], 5, 48, format);
        Expect.SameCodes(
            PartOracle.Encode(format, keys, false, AttentionCase.RotationSeed, hasDigest: true),
            harness.Decode(fresh, KernelShape.Sealed, 5).KeyCodes,
            "sealed into another slot");
        Assert.All(harness.Decode(copied, KernelShape.Sealed, 5).KeyCodes.Mean, mean => Assert.Equal((Half)1, mean));
    }

    [Fact]
    public void A_list_of_moves_between_many_classes_does_what_each_alone_does()
    {
        var geometry = new KvGeometry(1, 1, 1, 64, pageTokens: 5);
        (PageFormat, PageFormat)[] pairs =
        [
            (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.F32, PageFormat.F32), (PageFormat.T2, PageFormat.V2),
            (PageFormat.Q8, PageFormat.Q8), (PageFormat.I8, PageFormat.V4),
        ];
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F32, pairs), 60);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 60, 98));
        harness.Begin((sequence, 60));
        harness.Append(0);
        harness.End();
        PageMove[] moves = [.. sequence.Rows[0, 0].Select((e, i) => new PageMove(e.Slot, KernelShape.Open, harness.TakeSlot(), 1 + (i * 5 % 6), 5))];
        harness.Tier.Transcode(moves);
        for (int i = 0; i < moves.Length; i++)
        {
            var entry = new PageEntry(i, moves[i].TargetClass, moves[i].TargetSlot);
            DecodedPage page = harness.Decode(entry.Slot, entry.PageClass, 5);
            (PageFormat key, PageFormat value) = pairs[entry.PageClass - 1];
            float[][] keys = [.. Enumerable.Range(i * 5, 5).Select(t => Vector(sequence.Data.Keys[0], t, 64, PageFormat.F32))];
            float[][] values = [.. Enumerable.Range(i * 5, 5).Select(t => Vector(sequence.Data.Values[0], t, 64, PageFormat.F32))];
            Expect.SameCodes(PartOracle.Encode(key, keys, false, AttentionCase.RotationSeed, true), page.KeyCodes, $"keys of page {i}");
            Expect.SameCodes(PartOracle.Encode(value, values, false, AttentionCase.RotationSeed, false), page.ValueCodes, $"values of page {i}");
        }
    }

    [Fact]
    public void A_page_whose_scale_overflows_at_any_of_its_tokens_is_kept()
    {
        const int tokens = 21, width = 64;
        var geometry = new KvGeometry(1, 1, 1, width, pageTokens: tokens);
        using var harness = new TierHarness(TTier.Create, Shapes.Classes(geometry, PageFormat.F32, [(PageFormat.T4, PageFormat.V4)]), 60);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, (tokens + 1) * tokens, 99));
        harness.Begin((sequence, (tokens + 1) * tokens));
        float[] values = [.. sequence.Data.Values[0]];
        float[] signs = Rotation.Signs(width, AttentionCase.RotationSeed);
        for (int page = 0; page < tokens; page++)
        {
            // After rotation, the first element holds all of it: a minimum of 8 times the largest number of binary16.
            int token = (page * tokens) + page;
            signs.Select(sign => -65504 * sign).ToArray().CopyTo(values, token * width);
        }

        harness.Append(0, harness.Keys(0), values);
        harness.End();
        PageMove[] moves = [.. sequence.Rows[0, 0].Select(e => new PageMove(e.Slot, KernelShape.Open, harness.TakeSlot(), KernelShape.Sealed, tokens))];
        var kept = new bool[moves.Length];
        harness.Tier.Transcode(moves, kept);
        Assert.Equal([.. Enumerable.Repeat(true, tokens), false], kept);
    }

    // One head's first page.
    private static float[][] Page(float[] vectors, int tokens, int width, PageFormat open) =>
        [.. Enumerable.Range(0, tokens).Select(t => Vector(vectors, t, width, open))];

    // A part that stays in its format keeps its bits; the tier may keep its digest or compute it anew.
    private static PartCodes Demoted(PartCodes old, PageFormat format, bool hasDigest) => old.Format == format
        ? old with { Mean = format.IsCentered() ? old.Mean : [], Deviation = [] }
        : PartOracle.Encode(
            format,
            [.. Enumerable.Range(0, old.Codes.Length).Select(t => PartOracle.Decode(old, t))],
            old.Format.IsRotated(),
            AttentionCase.RotationSeed,
            hasDigest);
}
