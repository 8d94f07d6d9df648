using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>
/// Queries, keys and values of every size that binary32 has: finite input gives finite output, which equals the oracle's. With logits beyond
/// binary32 the largest one takes all attention; stored logits beyond it count as its largest number.
/// </summary>
public abstract partial class AttentionConformance<TTier>
{
    private const int RangeWidth = 32;

    private static readonly KvGeometry RangeGeometry = new(1, 4, 2, RangeWidth, pageTokens: 5);

    // Each pair of formats with the usual logits, and with one other kind of them.
    private static readonly KvGeometry[] RangeLogits =
    [
        RangeGeometry,
        RangeGeometry with { LogitSoftCap = 50 },
        RangeGeometry with { AttentionScale = 1e6f },
        RangeGeometry with { AttentionScale = 1e-6f, LogitSoftCap = 0.02f },
        RangeGeometry with { LogitSoftCap = 1e-30f },
        RangeGeometry with { AttentionScale = 40, LogitSoftCap = 1e30f },
        RangeGeometry with { AttentionScale = 1e6f, LogitSoftCap = 30 },
    ];

    public static IEnumerable<object[]> RangePairs => FormatPairs.Natural.SelectMany((pair, i) => new object[][]
    {
        [pair.Key, pair.Value, 0],
        [pair.Key, pair.Value, 1 + (i % (RangeLogits.Length - 1))],
    });

    [Theory]
    [MemberData(nameof(RangePairs))]
    public void Queries_however_small_see_every_page(PageFormat key, PageFormat value, int logits)
    {
        using TierHarness harness = RangeStep(RangeLogits[logits], key, value, tokens: 3, _ => { }, out HarnessSequence sequence);
        foreach (float size in new[] { 0f, float.Epsilon, 4e-41f, 2e-38f, 5e-30f, 7e-12f, 6e-6f, 2e-5f, 2e-3f, 5e-3f })
        {
            // Heads with elements of one size, with one larger element, with a single element, and with zeros.
            float[] queries = Queries(3, (head, e) => (head, e) switch
            {
                (0, _) => e % 3 == 0 ? -size : size,
                (1, _) => e == 9 ? 0.4f : size,
                (2, 21) => -size,
                _ => 0,
            });
            Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
        }
    }

    [Theory]
    [MemberData(nameof(RangePairs))]
    public void Exponents_may_be_mixed_within_queries_keys_and_values(PageFormat key, PageFormat value, int logits)
    {
        var random = new Random(91);
        using TierHarness harness = RangeStep(
            RangeLogits[logits], key, value, tokens: 2, data => Array.ForEach([data.Keys[0], data.Values[0]], x => Mix(x, random)), out HarnessSequence sequence);
        var queries = new float[2 * 4 * RangeWidth];
        for (int i = 0; i < 8; i++)
        {
            Mix(queries, random);
            Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
        }
    }

    [Theory]
    [MemberData(nameof(RangePairs))]
    public void Logits_beyond_binary32_leave_the_winner(PageFormat key, PageFormat value, int logits)
    {
        using TierHarness harness = RangeStep(
            RangeLogits[logits], key, value, tokens: 2, data => data.Keys[0] = [.. data.Keys[0].Select(x => Math.Clamp(x * 2000, -65504, 65504))], out HarnessSequence sequence);
        float[] ordinary = harness.Queries(0);
        foreach (float size in new[] { 1e7f, 2e20f, 3e29f, 5e33f, 4e36f })
        {
            float[] queries = [.. ordinary.Select(x => x * size)];
            Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
        }

        float[] most = Queries(2, (head, e) => (head + e) % 3 == 0 || e % 7 == head ? float.MaxValue : -float.MaxValue);
        Expect.MatchesOracleAsRounded(harness, most, harness.Attend(0, most), sequence);
    }

    [Theory]
    [InlineData(PageFormat.F32, 1e38f, 1f)]
    [InlineData(PageFormat.F32, 1e38f, 2e38f)]
    [InlineData(PageFormat.F32, 3e37f, 1e-37f)]
    [InlineData(PageFormat.F32, 1e-37f, 3e33f)]
    [InlineData(PageFormat.F32, 1e-41f, 1e32f)]
    [InlineData(PageFormat.BF16, 7e37f, 1e20f)]
    [InlineData(PageFormat.BF16, 2e-38f, 1e34f)]
    public void Keys_of_any_size_meet_queries_of_any_size(PageFormat format, float keySize, float querySize)
    {
        var random = new Random(92);
        using TierHarness harness = RangeStep(
            RangeGeometry, format, format, tokens: 2, data => data.Keys[0] = [.. data.Keys[0].Select(_ => keySize * ((2 * random.NextSingle()) - 1))], out HarnessSequence sequence);
        float[] queries = Queries(2, (_, _) => querySize * ((2 * random.NextSingle()) - 1));
        Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
    }

    [Theory]
    [InlineData(PageFormat.F32, float.MaxValue)]
    [InlineData(PageFormat.F32, 1.1e38f)]
    [InlineData(PageFormat.F32, 3e-41f)]
    [InlineData(PageFormat.BF16, 3.38e38f)]
    [InlineData(PageFormat.BF16, 6e-40f)]
    [InlineData(PageFormat.F16, 65504f)]
    [InlineData(PageFormat.F16, 6e-8f)]
    public void Values_of_any_size_are_averaged(PageFormat format, float size)
    {
        var random = new Random(93);
        foreach (bool isMixed in new[] { false, true })
        {
            using TierHarness harness = RangeStep(
                RangeGeometry,
                format,
                format,
                tokens: 3,
                data => data.Values[0] = [.. data.Values[0].Select((_, i) => i % RangeWidth == 3 || !isMixed ? size : size * ((2 * random.NextSingle()) - 1))],
                out HarnessSequence sequence);
            foreach (float querySize in new[] { 0f, 0.3f, 30f })
            {
                float[] queries = [.. harness.Queries(0).Select(x => x * querySize)];
                Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
            }
        }
    }

    [Theory]
    [InlineData(PageFormat.F16, 1f, 65504f, null)]
    [InlineData(PageFormat.F16, 1f, 65504f, 2f)]
    [InlineData(PageFormat.F32, 3e-39f, 1e38f, null)]
    [InlineData(PageFormat.F32, 2e36f, float.MaxValue, null)]
    [InlineData(PageFormat.F32, 2e36f, float.MaxValue, 20f)]
    [InlineData(PageFormat.F32, 0f, float.MaxValue, null)]
    [InlineData(PageFormat.BF16, 4e35f, 2e38f, null)]
    public void Rows_that_are_split_hold_the_range_too(PageFormat format, float querySize, float valueSize, float? cap)
    {
        var geometry = new KvGeometry(1, 1, 1, 8, pageTokens: 64) { LogitSoftCap = cap };
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(geometry, format), 80);
        var data = new SequenceData(geometry, 2200, 94);
        for (int i = 0; i < data.Values[0].Length; i++)
        {
            data.Values[0][i] = i % 8 < 2 ? valueSize : valueSize * float.Clamp(data.Values[0][i] / 4, -1, 1);
        }

        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 1000);
        harness.Fill(sequence, 199);
        harness.Begin((sequence, 1));
        harness.Append(0);
        float[] queries = [.. harness.Queries(0).Select(x => x * querySize)];
        Expect.MatchesOracleAsRounded(harness, queries, harness.Attend(0, queries), sequence);
    }

    [Theory]
    [MemberData(nameof(RangePairs))]
    public void Scores_hold_the_range(PageFormat key, PageFormat value, int logits)
    {
        foreach (float size in new[] { 0f, 3e-41f, 5e-6f, 3e3f, 1e30f, 1e37f })
        {
            if (RangeLogits[logits].LogitSoftCap > 1000 && size > 1e10f)
            {
                // Logits near such a cap are as one in binary32, and the oracle of scores tells them apart.
                continue;
            }

            using var harness = new TierHarness(TTier.Create, Shapes.Mixed(RangeLogits[logits], FormatPairs.OpenFor((key, value), 1), key, value), 100);
            var data = new SequenceData(RangeGeometry, 24, 95);

            // Without a cap logits are those of the usual scale: others would be so large that their own rounding counts.
            KvGeometry geometry = RangeLogits[logits];
            float usual = geometry.LogitSoftCap < 1000 ? 1 : RangeGeometry.AttentionScale / geometry.AttentionScale;
            data.Queries[0] = [.. data.Queries[0].Select(x => x * size * usual)];
            HarnessSequence sequence = harness.Add(data);
            var steps = new ScoredSteps(harness, 0.9f);
            steps.Run([0], 0, 3, (sequence, 17));
            steps.Run([0], 9, 1, (sequence, 3));
            steps.Run([0], 0, 2, (sequence, 4));
        }
    }

    // At least three sealed pages, and a step under way with the last tokens.
    private static TierHarness RangeStep(
        KvGeometry geometry, PageFormat key, PageFormat value, int tokens, Action<SequenceData> change, out HarnessSequence sequence)
    {
        var harness = new TierHarness(TTier.Create, Shapes.Mixed(geometry, FormatPairs.OpenFor((key, value), 1), key, value), 100);
        var data = new SequenceData(RangeGeometry, 23, 90);
        change(data);
        sequence = harness.Add(data);
        harness.Fill(sequence, 23 - tokens);
        harness.Begin((sequence, tokens));
        harness.Append(0);
        return harness;
    }

    private static float[] Queries(int tokens, Func<int, int, float> element) =>
        [.. Enumerable.Range(0, tokens * 4 * RangeWidth).Select(i => element(i / RangeWidth % 4, i % RangeWidth))];

    // Elements of 1e-40 .. 60,000, with all decades equally likely.
    private static void Mix(float[] elements, Random random)
    {
        for (int i = 0; i < elements.Length; i++)
        {
            elements[i] = (float)Math.Pow(10, (random.NextDouble() * 44.78) - 40) * (random.Next(2) == 0 ? 1 : -1);
        }
    }
}
