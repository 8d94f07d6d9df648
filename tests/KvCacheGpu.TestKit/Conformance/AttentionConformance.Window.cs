using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Attention with a sliding window.</summary>
public abstract partial class AttentionConformance<TTier>
{
    [Theory]
    [InlineData(1, PageFormat.F32, null)]
    [InlineData(3, PageFormat.I8, null)]
    [InlineData(5, PageFormat.BF16, null)]
    [InlineData(6, PageFormat.I8, null)]
    [InlineData(17, PageFormat.F16, null)]
    [InlineData(43, PageFormat.I8, null)]
    [InlineData(int.MaxValue, PageFormat.I8, null)]
    [InlineData(3, PageFormat.F32, 0.5f)]
    [InlineData(6, PageFormat.I8, 5f)]
    [InlineData(17, PageFormat.F16, 50f)]
    public void A_window_hides_what_lies_before_it(int window, PageFormat format, float? cap)
    {
        KvGeometry geometry = new(1, 6, 2, 64, 48, pageTokens: 5) { LogitSoftCap = cap };
        KernelShape shape = format == PageFormat.I8 ? Shapes.Encoded(geometry, PageFormat.F16) : Shapes.Plain(geometry, format);
        using var harness = new TierHarness(TTier.Create, shape, 200);
        HarnessSequence[] sequences = [.. new[] { 44, 29 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 50 + i)))];
        Array.ForEach(sequences, s => harness.Fill(s, s.Data.Tokens - 16));
        foreach ((int first, int second) in new[] { (13, 1), (1, 12), (1, 1), (1, 2) })
        {
            harness.Begin((sequences[0], first), (sequences[1], second));
            harness.Append(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0, window), Expect.Bound, window, sequences);
            Assert.Null(harness.End());
            Array.ForEach(sequences, harness.Seal);
        }
    }

    [Fact]
    public void A_window_without_end_gives_the_bits_of_none()
    {
        var geometry = new KvGeometry(1, 4, 2, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 33, 21));
        harness.Fill(sequence, 20);
        harness.Begin((sequence, 13));
        harness.Append(0);
        Assert.Equal(harness.Attend(0).Output, harness.Attend(0, 33).Output);
        Assert.Throws<ArgumentOutOfRangeException>(() => harness.Attend(0, -1));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Pages_before_every_window_are_not_read(int tokens)
    {
        var geometry = new KvGeometry(1, 2, 1, 32, pageTokens: 16);
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, PageFormat.F32, capacity: 160), 200);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 2200, 22));
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 200 - tokens);
        int[] nothing = [.. Enumerable.Repeat(BitConverter.SingleToInt32Bits(float.NaN), 16 * 64)];
        foreach (PageEntry page in sequence.Rows[0, 0].Where(p => (p.PageIndex + 1) * 16 <= 2200 - tokens - 40 + 1))
        {
            harness.Tier.Load(page.Slot * 16L, nothing);
        }

        harness.Begin((sequence, tokens));
        harness.Append(0);
        Attention attention = harness.Attend(0, 40);
        Assert.All(attention.Output, x => Assert.True(float.IsFinite(x)));
        Expect.MatchesOracle(harness, 0, harness.Queries(0), attention, Expect.Bound, 40, sequence);
    }
}
