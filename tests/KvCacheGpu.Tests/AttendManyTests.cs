using KvCacheGpu.TestKit;
using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Attention to many sequences in one launch, without a step.</summary>
public sealed class AttendManyTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly int Row = G.QueryHeads * G.ValueWidth;

    [Theory]
    [InlineData(PageFormat.F32, null)]
    [InlineData(PageFormat.I8, 1.5f)]
    public void Many_sequences_at_once_give_what_each_gives_alone_and_leave_no_trace(PageFormat format, float? cap)
    {
        KvCacheOptions config = TestCaches.Config(format);
        config.Policy = new H2oPolicy { SinkTokens = 4, WindowTokens = 4 };
        using KvCache cache = TestCaches.Simd(G with { LogitSoftCap = cap }, config);
        KvSequence[] sequences = [.. new[] { 9, 26, 1 }.Select(length =>
        {
            KvSequence sequence = cache.CreateSequence();
            sequence.FeedMany(length, length);
            sequence.Decode(5);
            return sequence;
        })];
        string before = LiveCaches.Transcript(sequences);
        int[][] ids = [[3, 4, 5], [6], [7, 8]];
        float[] output = new float[6 * Row], sums = new float[6 * G.QueryHeads], expected = new float[6 * Row], expectedSums = new float[6 * G.QueryHeads];
        int first = 0;
        foreach ((KvSequence sequence, int[] own) in sequences.Zip(ids))
        {
            sequence.Attend(
                1,
                TokenContent.Queries(G, 1, own),
                KvOutput.FromHost(expected.AsSpan(first * Row, own.Length * Row), expectedSums.AsSpan(first * G.QueryHeads, own.Length * G.QueryHeads)),
                window: 7);
            first += own.Length;
        }

        cache.Attend(sequences, 1, TokenContent.Queries(G, 1, [3, 4, 5, 6, 7, 8]), KvOutput.FromHost(output, sums), [3, 1, 2], window: 7);
        Assert.Equal(expected, output);
        Assert.Equal(expectedSums, sums);
        Assert.Equal(before, LiveCaches.Transcript(sequences));

        // One query of each, which is what decoding asks.
        cache.Attend(sequences, 0, TokenContent.Queries(G, 0, [3, 4, 5]), output);
        Assert.Equal([.. Ask(sequences[0], 0, [3]), .. Ask(sequences[1], 0, [4]), .. Ask(sequences[2], 0, [5])], output[..(3 * Row)]);
        float[] queries = TokenContent.Queries(G, 0, [3, 4, 5]);
        Ask100();
        Assert.Equal(0, Allocations.Of(Ask100));

        void Ask100()
        {
            for (int i = 0; i < 100; i++)
            {
                cache.Attend(sequences, 0, queries, output);
            }
        }
    }

    [Fact]
    public void What_cannot_be_asked_of_many_is_refused_and_holds_none_of_them()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxBatchTokens: 8)), other = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), empty = cache.CreateSequence(), foreign = other.CreateSequence();
        a.FeedMany(1, 9, chunk: 8);
        b.FeedMany(1, 3);
        float[] queries = TokenContent.Queries(G, 0, [1, 2]), output = new float[2 * Row];
        Assert.Throws<ArgumentOutOfRangeException>("sequences", () => cache.Attend([], 0, queries, output));
        Assert.Throws<ArgumentException>("sequences", () => cache.Attend([a, foreign], 0, queries, output));
        Assert.Throws<ArgumentException>("queriesPerSequence", () => cache.Attend([a, b], 0, queries, output, [2]));
        Assert.Throws<ArgumentException>("queries", () => cache.Attend([a, empty], 0, queries, output));
        Assert.Throws<ArgumentException>("queries", () => cache.Attend([a, b], 0, queries, output, [1, 2]));
        Assert.Throws<ArgumentException>("output", () => cache.Attend([a, b], 0, queries, output.AsSpan(1)));
        Assert.Throws<ArgumentException>("sequences", () => cache.Attend([a, a], 0, queries, output));
        empty.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.Attend([a, empty], 0, queries, output));
        cache.Attend([a, b], 0, queries, output);
        Assert.Equal([.. Ask(a, 0, [1]), .. Ask(b, 0, [2])], output);
    }

    private static float[] Ask(KvSequence sequence, int layer, int[] ids)
    {
        float[] output = new float[ids.Length * Row];
        sequence.Attend(layer, TokenContent.Queries(G, layer, ids), output);
        return output;
    }
}
