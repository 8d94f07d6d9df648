namespace KvCacheGpu.Tests;

/// <summary>Each step is given its sequences: any of the cache, in any order, others in each step. What is refused leaves no trace.</summary>
public sealed class BatchTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32)]
    [InlineData(PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    public void Members_that_come_and_go_are_bit_for_bit_as_if_each_ran_alone(PageFormat key, PageFormat value)
    {
        KvCacheOptions config = TestCaches.Config(new KvFormats(key, value));
        (config.MaxTokens, config.MaxSequences) = (1024, 6);
        using KvCache together = TestCaches.Simd(G, config);
        using KvCache apart = TestCaches.Simd(G, config);
        var random = new Random(11);
        var live = new List<(KvSequence Member, KvSequence Alone)>();
        int id = 0;
        int steps = 0;
        for (int round = 0; round < 300; round++)
        {
            if (live.Count == 0 || (live.Count < 6 && random.Next(3) == 0))
            {
                live.Add((together.CreateSequence(), apart.CreateSequence()));
            }

            (KvSequence Member, KvSequence Alone)[] some = [.. live.OrderBy(_ => random.Next()).Take(1 + random.Next(live.Count))];
            int[][] ids = [.. some.Select(_ => Enumerable.Range(id += 8, 1 + random.Next(5)).ToArray())];
            float[] outputs = Run(together.Begin([.. some.Select(s => s.Member)], [.. ids.SelectMany(x => x)], [.. ids.Select(x => x.Length)]), [.. ids.SelectMany(x => x)]);
            int first = 0;
            for (int i = 0; i < some.Length; i++)
            {
                float[] alone = Run(some[i].Alone.Begin(ids[i]), ids[i]);
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    int width = G.QueryHeads * G.ValueWidth;
                    Assert.Equal(
                        alone.AsSpan(layer * ids[i].Length * width, ids[i].Length * width),
                        outputs.AsSpan(((layer * ids.Sum(x => x.Length)) + first) * width, ids[i].Length * width));
                }

                first += ids[i].Length;
            }

            steps += some.Length > 1 ? 1 : 0;
            (KvSequence member, KvSequence same) = live[random.Next(live.Count)];
            if (member.Length > 90 || random.Next(6) == 0)
            {
                AssertSame(same, member);
                member.Dispose();
                same.Dispose();
                live.Remove((member, same));
            }
        }

        live.ForEach(pair => AssertSame(pair.Alone, pair.Member));
        Assert.True(steps > 100, $"{steps} steps of several sequences");
    }

    [Fact]
    public void A_batch_is_as_large_as_the_cache_and_no_larger()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxTokens: 2048, maxSequences: 32));
        KvSequence[] all = [.. Enumerable.Range(0, 32).Select(_ => cache.CreateSequence())];
        int[] ones = [.. Enumerable.Repeat(1, 32)];
        Assert.True(cache.CanAppend(all, ones));
        _ = Run(cache.Begin(all, [.. Enumerable.Range(0, 32)], ones), [.. Enumerable.Range(0, 32)]);
        Assert.All(all, sequence => Assert.Equal(1, sequence.Length));
        Assert.Contains(
            "at most 32 live", Assert.Throws<ArgumentException>("sequences", () => cache.CanAppend([.. all, all[0]], [.. ones, 1])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void More_sequences_than_a_step_has_tokens_for_cannot_append()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxSequences: 4, maxBatchTokens: 2));
        KvSequence[] all = [.. Enumerable.Range(0, 3).Select(_ => cache.CreateSequence())];
        Assert.False(cache.CanAppend(all, [1, 1, 1]));
        Assert.Throws<ArgumentException>("tokenIds", () => cache.Begin(all, [1, 2, 3], [1, 1, 1]));
        Assert.True(cache.CanAppend(all.AsSpan(1), [1, 1]));
    }

    [Theory]
    [InlineData("no sequence", typeof(ArgumentException), "at least 1 sequence", true)]
    [InlineData("null", typeof(ArgumentNullException), "null at 1", true)]
    [InlineData("foreign", typeof(ArgumentException), "another at 2", true)]
    [InlineData("twice", typeof(ArgumentException), "again at 2", true)]
    [InlineData("disposed", typeof(ObjectDisposedException), "at 1 that was disposed", true)]
    [InlineData("in a step", typeof(KvConcurrencyException), "sequence at 1 in use", true)]
    [InlineData("a count missing", typeof(ArgumentException), "each of 2 sequences, got 1", true)]
    [InlineData("no token", typeof(ArgumentException), "at least 1 token", false)]
    [InlineData("an id missing", typeof(ArgumentException), "expected 2 token ids", false)]
    [InlineData("too many tokens", typeof(ArgumentException), "at most 32 tokens", false)]
    [InlineData("too long", typeof(KvOutOfMemoryException), "of the tokens that a sequence may have", false)]
    public void What_is_refused_leaves_every_sequence_as_it_was_and_not_in_use(string what, Type error, string says, bool alsoCanAppend)
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(maxSequences: 6, maxTokens: 256));
        using KvCache other = TestCaches.Reference(G, TestCaches.Config());
        KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), busy = cache.CreateSequence(), disposed = cache.CreateSequence(), lengthy = cache.CreateSequence();
        a.FeedMany(1, 6);
        b.FeedMany(20, 9);
        lengthy.FeedMany(300, 255);
        disposed.Dispose();
        cache.Begin([a, b], [1, 2], [1, 1]).Dispose();
        using KvStep under = busy.Begin([5]);
        a.Begin([1]).Dispose();
        (KvSequence[] sequences, int[] ids, int[] counts) = what switch
        {
            "no sequence" => ((KvSequence[])[], (int[])[], (int[])[]),
            "null" => ([a, null!], [1, 2], [1, 1]),
            "foreign" => ([a, b, other.CreateSequence()], [1, 2, 3], [1, 1, 1]),
            "twice" => ([a, b, a], [1, 2, 3], [1, 1, 1]),
            "disposed" => ([a, disposed, b], [1, 2, 3], [1, 1, 1]),
            "in a step" => ([a, busy, b], [1, 2, 3], [1, 1, 1]),
            "a count missing" => ([a, b], [1, 2], [2]),
            "no token" => ([a, b], [1, 2], [2, 0]),
            "an id missing" => ([a, b], [1], [1, 1]),
            "too many tokens" => ([a, b], new int[33], [1, 32]),
            _ => ([a, lengthy], [1, 2, 3], [1, 2]),
        };
        string before = State(cache, a, b, lengthy);
        StepLease idle = TheIdleOne(cache);
        Exception? begun = Record.Exception(() => cache.Begin(sequences, ids, counts).Dispose());
        Assert.IsType(error, begun);
        Assert.Contains(says, begun.Message, StringComparison.Ordinal);
        Assert.Same(idle, TheIdleOne(cache));
        bool has = true;
        Exception? tried = Record.Exception(() => has = cache.TryBegin(sequences, ids, counts, out _));
        Assert.Equal(what == "too long" ? null : error, tried?.GetType());
        Assert.Equal(what != "too long", has);
        Assert.Same(idle, TheIdleOne(cache));
        bool could = false;
        Exception? asked = Record.Exception(() => could = cache.CanAppend(sequences, counts));
        Assert.Equal(alsoCanAppend ? error : null, asked?.GetType());
        Assert.Equal(what == "an id missing", could);
        Assert.Same(idle, TheIdleOne(cache));
        Assert.Equal(before, State(cache, a, b, lengthy));
        _ = Run(cache.Begin([b, a], [7, 8], [1, 1]), [7, 8]);
        Assert.Equal((7, 10), (a.Length, b.Length));
    }

    [Fact]
    public void One_sequence_alone_is_refused_in_words_that_name_no_place()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        KvSequence sequence = cache.CreateSequence();
        using (sequence.Begin([1]))
        {
            Assert.DoesNotContain("at 0", Assert.Throws<KvConcurrencyException>(() => sequence.Begin([1])).Message, StringComparison.Ordinal);
        }

        sequence.Dispose();
        Assert.DoesNotContain("at 0", Assert.Throws<ObjectDisposedException>(() => sequence.Begin([1])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_member_that_is_disposed_meanwhile_is_told_by_its_place_and_takes_nothing_from_the_others()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(maxTokens: 1024));
        using KvSequence stays = cache.CreateSequence();
        for (int round = 0; round < 400; round++)
        {
            KvSequence goes = cache.CreateSequence();
            int before = stays.Length;
            using var start = new Barrier(2);
            var disposing = new Thread(() =>
            {
                start.SignalAndWait();
                Thread.SpinWait(round * 8);
                goes.Dispose();
            });
            disposing.Start();
            start.SignalAndWait();
            Exception? ended = Record.Exception(() => _ = Run(cache.Begin([stays, goes], [round, round], [1, 1]), [round, round]));
            disposing.Join();
            Assert.True(ended is null or ObjectDisposedException, $"{ended}");
            Assert.Equal(before + (ended is null ? 1 : 0), stays.Length);
            Assert.True(cache.CanAppend([stays], [1]));
            stays.Truncate(Math.Min(stays.Length, 200));
        }
    }

    /// <summary>Runs a step over all layers, and returns the output of each layer.</summary>
    internal static float[] Run(KvStep begun, int[] ids)
    {
        using KvStep step = begun;
        int width = ids.Length * G.QueryHeads * G.ValueWidth;
        float[] output = new float[G.Layers * width];
        for (int layer = 0; layer < G.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(G, layer, ids), TokenContent.Values(G, layer, ids));
            step.Attend(layer, TokenContent.Queries(G, layer, ids), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    /// <summary>Keys and values of all layers, as they read.</summary>
    internal static float[] Content(KvSequence sequence) =>
        [.. Enumerable.Range(0, G.Layers).Select(sequence.Materialized).SelectMany(layer => (float[])[.. layer.Keys, .. layer.Values])];

    private static void AssertSame(KvSequence expected, KvSequence actual)
    {
        Assert.Equal(expected.TokenIds, actual.TokenIds);
        Assert.Equal(Content(expected), Content(actual));
    }

    // What steps run in: a call that loses it would leave the next step to make it anew.
    private static StepLease TheIdleOne(KvCache cache)
    {
        StepLease idle = cache.Steps.Rent();
        cache.Steps.Return(idle);
        return idle;
    }

    private static string State(KvCache cache, params KvSequence[] sequences) => string.Join('\n',
    [
        $"{cache.AllocatedBytes} bytes, {cache.GetPageCounts()}",
        .. sequences.Select(sequence => string.Join(' ', [.. sequence.TokenIds.ToArray(), .. Content(sequence)])),
    ]);
}
