namespace KvCacheGpu.Tests;

public sealed class WindowPolicyTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvGeometry OneRow = new(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 8, pageTokens: 4);

    [Fact]
    public void Eviction_is_a_mask_over_the_dropped_tokens()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(2, 6);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < 60; id++)
        {
            float[] output = sequence.Decode(id + 1);
            int[] kept = [.. Enumerable.Range(0, id + 1).Where(t => t / 4 == 0 || ((t / 4) + 1) * 4 > id - 6 - 4)];
            for (int head = 0; head < G.QueryHeads; head++)
            {
                double[] expected = Masked(1, head, id, kept);
                double[] actual = [.. output.Skip(32 + (head * 8)).Take(8)];
                Assert.All(Enumerable.Range(0, 8), e => Assert.Equal(expected[e], actual[e], 1e-5));
            }
        }

        var positions = new int[60];
        int count = sequence.ResidentPositions(1, 1, positions);
        Assert.Equal([0, 1, 2, 3, .. Enumerable.Range(48, 12)], positions[..count]);
        Assert.Equal(44.0, sequence.EvictedTokens);
    }

    [Fact]
    public void Sinks_and_window_stay_at_every_length()
    {
        var policy = new WindowPolicy(5, 9);
        for (int length = 1; length < 200; length++)
        {
            int[] pages = [.. Enumerable.Range(0, length / 4)];
            var plan = new KvTransition[pages.Length];
            policy.Plan(new KvPages(OneRow, length, [0, pages.Length], pages), 0, plan, null);
            foreach (int page in pages)
            {
                bool wanted = page * 4 < 5 || (page + 1) * 4 > length - 9 - 4;
                Assert.Equal(wanted ? KvTransition.Keep : KvTransition.Drop, plan[page]);
            }
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => new WindowPolicy(-1, 4));
        Assert.Throws<ArgumentOutOfRangeException>(() => new WindowPolicy(0));
        Assert.Equal(4, new WindowPolicy(8).SinkTokens);
    }

    [Fact]
    public void A_policy_may_drop_other_pages_in_other_heads()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new FirstHeadOnly { SinkTokens = 0, WindowTokens = 1 };
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 16);
        Assert.Equal((4, 16), (sequence.ResidentTokens(0, 0), sequence.ResidentTokens(0, 1)));
        Assert.Equal(6.0, sequence.EvictedTokens);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => sequence.Materialize(0, [], [])).Code);
        var keys = new float[4 * 8];
        Assert.Equal(4, sequence.Materialize(0, 0, keys, []));
        Assert.Equal(TokenContent.Keys(G, 0, [13, 14, 15, 16]).Chunk(8).Where((_, i) => i % 2 == 0).SelectMany(x => x), keys);
        sequence.Feed(17);
    }

    private static double[] Masked(int layer, int head, int position, int[] kept)
    {
        float[] query = TokenContent.Queries(G, layer, [position + 1])[(head * 8)..((head + 1) * 8)];
        double[] logits = [.. kept.Select(t => Dot(query, TokenContent.Keys(G, layer, [t + 1]).AsSpan(head / 2 * 8, 8)) / Math.Sqrt(8))];
        double total = logits.Sum(Math.Exp);
        var output = new double[8];
        for (int i = 0; i < kept.Length; i++)
        {
            float[] value = TokenContent.Values(G, layer, [kept[i] + 1]);
            for (int e = 0; e < 8; e++)
            {
                output[e] += Math.Exp(logits[i]) / total * value[(head / 2 * 8) + e];
            }
        }

        return output;
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
        {
            sum += (double)a[i] * b[i];
        }

        return sum;
    }
}

/// <summary>Keeps all pages of a layer's second head, and none but the last of the first.</summary>
internal sealed class FirstHeadOnly : KvPolicy
{
    public override bool ActsUnasked => true;

    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        for (int row = 0; row < pages.Rows; row++)
        {
            plan[pages.RowStarts[row]..pages.RowStarts[row + 1]].Fill(row % 2 == 0 ? KvTransition.Drop : KvTransition.Keep);
        }
    }

    public override int MostKeptPages(int pageTokens) => int.MaxValue;
}
