using KvCacheGpu.Kernels;

using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Attention to a sequence without a step: what a step would have given, and no trace.</summary>
public class AttendTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly int Row = G.QueryHeads * G.ValueWidth;

    public static TheoryData<KvFormats> Pairs => [.. TestCaches.NaturalPairs.Where(pair => pair.Key.Takes(G.KeyWidth))];

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32, 0)]
    [InlineData(PageFormat.F16, PageFormat.F16, 0)]
    [InlineData(PageFormat.I8, PageFormat.I8, 5)]
    [InlineData(PageFormat.T3, PageFormat.V3, 0)]
    public void It_is_what_the_step_gave_of_all_its_tokens(PageFormat key, PageFormat value, int window)
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(new KvFormats(key, value)));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 21);
        int[] ids = [31, 32, 33, 34, 35, 36];
        float[][] expected = [new float[6 * Row], new float[6 * Row]];
        float[] sums = new float[6 * G.QueryHeads];
        using (KvStep step = sequence.Begin(ids))
        {
            TestCaches.AppendAll(step, G, ids);
            step.Attend(0, TokenContent.Queries(G, 0, ids), KvOutput.FromHost(expected[0], sums), window);
            step.Attend(1, TokenContent.Queries(G, 1, ids), expected[1], window: window);
            Assert.Equal("E006", Assert.Throws<KvConcurrencyException>(() => Ask(sequence, 0, ids, window)).Code);
            step.Commit();
        }

        float[] logSumExp = new float[6 * G.QueryHeads];
        float[] output = new float[6 * Row];
        if (key == PageFormat.F32)
        {
            // Nothing was sealed into another format since: bit for bit.
            sequence.Attend(0, TokenContent.Queries(G, 0, ids), KvOutput.FromHost(output, logSumExp), window);
            Assert.Equal(expected[0], output);
            Assert.Equal(sums, logSumExp);
            Assert.Equal(expected[1], Ask(sequence, 1, ids, window));
        }

        float[] alone = Ask(sequence, 1, [36], window);
        Assert.Equal(Ask(sequence, 1, ids, window)[(5 * Row)..], alone, Near);
        if (key is PageFormat.F32 or PageFormat.F16)
        {
            sequence.Truncate(23);
            Assert.Equal(expected[0][Row..(2 * Row)], Ask(sequence, 0, [32], window), Near);
        }
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Forks_demoted_and_reused_pages_answer_as_one_that_steps(KvFormats formats)
    {
        KvCacheOptions config = TestCaches.Config(formats);
        config.PrefixReuse = true;
        config.DemotionFormats = [new KvFormats(PageFormat.T2, PageFormat.V2)];
        config.EdgeLayers = 0;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence first = cache.CreateSequence();
        first.FeedMany(1, 26);
        if (formats.Key == PageFormat.F32)
        {
            Assert.True(first.Demote(0, 1, 2, new KvFormats(PageFormat.T2, PageFormat.V2)));
        }

        using KvSequence fork = first.Fork();
        using KvSequence second = cache.CreateSequence();
        Assert.True(second.Reuse([.. Enumerable.Range(1, 40)]) > 0);
        foreach (KvSequence sequence in (KvSequence[])[first, fork, second])
        {
            int pages = cache.GetPageCounts().ByFormats.Sum(p => p.Open + p.Sealed);
            float[] asked = Ask(sequence, 0, [500]);
            Assert.Equal(pages, cache.GetPageCounts().ByFormats.Sum(p => p.Open + p.Sealed));
            Assert.Equal(Oracle(sequence, 0, 500), asked, Near);
        }
    }

    [Fact]
    public void Dropped_tokens_are_as_if_masked_and_queries_before_them_are_refused()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(5, 4);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 31, chunk: 1);
        Assert.True(sequence.EvictedTokens > 8);
        Assert.Equal(Oracle(sequence, 1, 77), Ask(sequence, 1, [77]), Near);
        float[] several = Ask(sequence, 1, [9, 9, 9, 77]);
        Assert.Equal(Oracle(sequence, 1, 77), several[(3 * Row)..], Near);
        int[] many = [.. Enumerable.Range(0, 30)];
        KvUnsupportedException refused = Assert.Throws<KvUnsupportedException>(() => Ask(sequence, 1, many));
        Assert.Equal("E009", refused.Code);
        Assert.Contains("by 30 queries", refused.Message, StringComparison.Ordinal);

        // Cut to a page's end whose page is gone: the sinks are what is left to see, and a window sees nothing.
        sequence.Truncate(20);
        Assert.Equal(8, sequence.ResidentTokens(1, 0));
        Assert.Equal(Oracle(sequence, 1, 77), Ask(sequence, 1, [77]), Near);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => Ask(sequence, 1, [77], window: 12)).Code);
        Assert.NotEmpty(Ask(sequence, 1, [77], window: 13));
        Assert.Throws<KvUnsupportedException>(() => Ask(sequence, 1, [76, 77]));
    }

    [Theory]
    [InlineData(PageFormat.F32, 0.6f, null)]
    [InlineData(PageFormat.F32, 0.6f, 1.5f)]
    [InlineData(PageFormat.I8, 0.1f, 0.01f)]
    [InlineData(PageFormat.T4, 0.3f, 50f)]
    public void The_models_scale_and_cap_hold_in_steps_in_reads_and_in_what_they_tell(PageFormat format, float scale, float? cap)
    {
        KvGeometry geometry = G with { AttentionScale = scale, LogitSoftCap = cap };
        KvCacheOptions config = TestCaches.Config(new KvFormats(format, format == PageFormat.T4 ? PageFormat.V4 : format));
        config.PageStatistics = true;
        using KvCache cache = TestCaches.Simd(geometry, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.CheckedStep([.. Enumerable.Range(1, 18)]);
        sequence.CheckedStep(19);
        float[] queries = TokenContent.Queries(G, 1, [19]);
        float[] output = Ask(sequence, 1, [19], counts: true);
        float[] mass = new float[8], tokens = new float[19];
        for (int head = 0; head < G.QueryHeads; head++)
        {
            double[] expected = TightCaches.Oracle(sequence, 1, head, 18, queries.AsSpan(head * G.KeyWidth, G.KeyWidth));
            Assert.All(expected.Zip(output.Skip(head * G.ValueWidth)), pair => Assert.Equal(pair.First, pair.Second, 1e-5));
            int pages = sequence.PageMass(1, head, mass);
            Assert.Equal(19, sequence.TokenMass(1, head, queries.AsSpan(head * G.KeyWidth, G.KeyWidth), tokens));
            for (int page = 0; page < pages; page++)
            {
                Assert.Equal(tokens[(4 * page)..Math.Min(19, (4 * page) + 4)].Sum(), mass[page], 1e-5);
            }
        }
    }

    [Fact]
    public void It_leaves_no_trace_unless_it_counts()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new H2oPolicy { SinkTokens = 4, WindowTokens = 4 };
        config.MemoryBudgetPercent = 450;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence other = cache.CreateSequence();
        sequence.FeedMany(1, 12);
        sequence.Decode(13);
        other.Feed(1);
        string before = Trace(sequence);
        Ask(sequence, 0, [700]);
        Ask(sequence, 1, [6, 700]);
        Ask(sequence, 1, [700], window: 2);
        Assert.Equal(before, Trace(sequence));
        Assert.True(sequence.State.LastStep < other.State.LastStep);

        long samples = sequence.State.Scores!.Samples;
        foreach (int round in (int[])[1, 2])
        {
            Ask(sequence, 0, [700], counts: true);
            Ask(sequence, 1, [700], counts: true);
            Assert.Equal(samples + round, sequence.State.Scores.Samples);
        }

        Assert.NotEqual(before, Trace(sequence));
        Assert.True(sequence.State.LastStep > other.State.LastStep);
        float[] mass = new float[4];
        Assert.Equal(4, sequence.PageMass(0, 3, mass));
        Assert.Equal(1, mass.Sum(), 1e-5);
        float[] tokens = new float[13];
        sequence.TokenMass(0, 3, TokenContent.Queries(G, 0, [700]).AsSpan(3 * G.KeyWidth), tokens);
        Assert.Equal(tokens[4..8].Sum(), mass[1], 1e-4);
    }

    [Fact]
    public void What_cannot_be_asked_is_refused()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxBatchTokens: 8));
        using KvSequence sequence = cache.CreateSequence();
        Assert.Throws<ArgumentException>("queries", () => Ask(sequence, 0, [1]));
        sequence.FeedMany(1, 20, chunk: 8);
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => Ask(sequence, 2, [1]));
        Assert.Throws<ArgumentOutOfRangeException>("window", () => Ask(sequence, 1, [1], window: -1));
        Assert.Throws<ArgumentException>("queries", () => sequence.Attend(0, new float[9 * G.QueryHeads * G.KeyWidth], new float[9 * Row]));
        Assert.Throws<ArgumentException>("queries", () => sequence.Attend(0, new float[(G.QueryHeads * G.KeyWidth) + 1], new float[Row]));
        Assert.Throws<ArgumentException>("queries", () => sequence.Attend(0, Array.Empty<float>(), new float[Row]));
        Assert.Throws<ArgumentException>("output", () => sequence.Attend(0, new float[G.QueryHeads * G.KeyWidth], new float[Row - 1]));
        Assert.Throws<ArgumentException>("logSumExp", () => sequence.Attend(0, new float[G.QueryHeads * G.KeyWidth], KvOutput.FromHost(new float[Row], new float[1])));
        Assert.NotEmpty(Ask(sequence, 0, [1]));
        sequence.Dispose();
        Assert.Throws<ObjectDisposedException>(() => Ask(sequence, 0, [1]));
    }

    [Fact]
    public void It_allocates_nothing()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new H2oPolicy { SinkTokens = 4, WindowTokens = 4 };
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        float[] queries = TokenContent.Queries(G, 0, [5, 6, 7]);
        float[] output = new float[3 * Row];
        Repeat(50);
        long allocated = cache.AllocatedBytes;
        Assert.Equal(0, Allocations.Of(() => Repeat(500)));
        Assert.Equal(allocated, cache.AllocatedBytes);

        void Repeat(int times)
        {
            for (int i = 0; i < times; i++)
            {
                sequence.Attend(i % 2, queries, output, counts: i % 4 > 1);
            }
        }
    }

    [Fact]
    public async Task Working_memory_for_one_is_enough_for_many_and_a_step_waits_its_turn()
    {
        KvCacheOptions config = TestCaches.Config(maxSequences: 5);
        config.MemoryBudgetBytes = Enough(config);
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence[] sequences = [.. Enumerable.Range(0, 4).Select(_ => cache.CreateSequence())];
        Array.ForEach(sequences, s => s.FeedMany(1, 9));
        float[] expected = Ask(sequences[0], 0, [3]);
        long allocated = cache.AllocatedBytes;
        using (sequences[3].Begin([1]))
        {
            KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => Ask(sequences[0], 0, [3]));
            Assert.Equal(("E001", true), (refused.Code, refused.IsTransient));
        }

        using var stop = new ManualResetEventSlim();
        Task[] readers = [.. sequences[..3].Select(sequence => Task.Run(() =>
        {
            while (!stop.IsSet)
            {
                try
                {
                    Assert.Equal(expected, Ask(sequence, 0, [3]));
                }
                catch (KvOutOfMemoryException e) when (e.IsTransient)
                {
                    // The step below had it.
                }
            }
        }))];
        for (int i = 0; i < 200; i++)
        {
            // Never refused: readers give way.
            using KvStep step = sequences[3].Begin([i]);
        }

        stop.Set();
        await Task.WhenAll(readers);
        Assert.Equal(allocated, cache.AllocatedBytes);
    }

    [Fact]
    public void Readers_at_once_never_fail()
    {
        KvCacheOptions config = TestCaches.Config();
        config.MemoryBudgetBytes = Enough(config);
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence[] sequences = [.. Enumerable.Range(0, 4).Select(_ => cache.CreateSequence())];
        Array.ForEach(sequences, s => s.FeedMany(1, 9));
        float[] expected = Ask(sequences[0], 1, [3]);
        Parallel.ForEach(sequences, new ParallelOptions { MaxDegreeOfParallelism = 4 }, sequence =>
        {
            for (int i = 0; i < 500; i++)
            {
                Assert.Equal(expected, Ask(sequence, 1, [3]));
            }
        });
    }

    // What the sequences take, and no second working memory.
    private static long Enough(KvCacheOptions config)
    {
        using KvCache roomy = TestCaches.Simd(G, config);
        KvSequence[] sequences = [.. Enumerable.Range(0, 4).Select(_ => roomy.CreateSequence())];
        Array.ForEach(sequences, s => s.FeedMany(1, 10));
        return roomy.AllocatedBytes + 16_000;
    }

    private static float[] Ask(KvSequence sequence, int layer, int[] ids, int window = 0, bool counts = false)
    {
        float[] output = new float[ids.Length * Row];
        sequence.Attend(layer, TokenContent.Queries(G, layer, ids), output, window: window, counts: counts);
        return output;
    }

    // Attention in double precision over what is resident, as it is decoded.
    private static float[] Oracle(KvSequence sequence, int layer, int id)
    {
        float[] query = TokenContent.Queries(G, layer, [id]);
        float[] output = new float[Row];
        for (int head = 0; head < G.QueryHeads; head++)
        {
            int tokens = sequence.ResidentTokens(layer, head / G.GroupSize);
            float[] keys = new float[tokens * G.KeyWidth];
            float[] values = new float[tokens * G.ValueWidth];
            sequence.Materialize(layer, head / G.GroupSize, keys, values);
            double[] weights = [.. Enumerable.Range(0, tokens).Select(t => Math.Exp(
                Enumerable.Range(0, G.KeyWidth).Sum(e => (double)query[(head * G.KeyWidth) + e] * keys[(t * G.KeyWidth) + e]) / Math.Sqrt(G.KeyWidth)))];
            for (int e = 0; e < G.ValueWidth; e++)
            {
                output[(head * G.ValueWidth) + e] = (float)(weights.Select((w, t) => w * values[(t * G.ValueWidth) + e]).Sum() / weights.Sum());
            }
        }

        return output;
    }

    private static string Trace(KvSequence sequence)
    {
        var parts = new List<string> { $"{sequence.Length} {sequence.State.LastStep} {sequence.State.Scores!.Samples} {sequence.Cache.AllocatedBytes}" };
        float[] mass = new float[16];
        int[] words = new int[4 * TableMap.ScoreWords];
        for (int row = 0; row < G.Layers * G.KvHeads; row++)
        {
            int pages = sequence.PageMass(row / G.KvHeads, row % G.KvHeads * G.GroupSize, mass);
            sequence.Cache.State.Tier.Read(sequence.State.Table.ScoreWord(row, 0), words);
            parts.Add(string.Join(' ', mass[..pages]) + " | " + string.Join(' ', words));
        }

        return string.Join('\n', parts);
    }

    private static bool Near(float a, float b) => Math.Abs(a - b) < 2e-5f * Math.Max(1, Math.Abs(a));
}
