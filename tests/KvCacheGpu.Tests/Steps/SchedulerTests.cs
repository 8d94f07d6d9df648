namespace KvCacheGpu.Tests;

/// <summary>
/// Continuous batching as a server does it, in memory that does not hold all requests: one gives way by being disposed, and is computed again later.
/// It ends, and requests that someone cancels by disposing their sequences do not disturb it.
/// </summary>
public sealed class SchedulerTests
{
    private const int Requests = 40;
    private const int MostRunning = 8;
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(1, false, PageFormat.F32)]
    [InlineData(2, true, PageFormat.F32)]
    [InlineData(3, true, PageFormat.I8)]
    public void Requests_end_with_all_their_tokens_whoever_gives_way_and_whoever_is_cancelled(int seed, bool cancels, PageFormat format)
    {
        var random = new Random(seed);
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(format, maxTokens: 96, maxSequences: MostRunning, maxBatchTokens: 1024));
        List<Request> waiting = [.. Enumerable.Range(0, Requests).Select(i => new Request(1000 * i, 1 + random.Next(40), 1 + random.Next(40)))], running = [];
        int largest = waiting.Sum(request => request.Wanted);
        (int steps, int preempted, int done, int cancelled) = (0, 0, 0, 0);
        bool mayJoin = true;
        while (waiting.Count + running.Count > 0)
        {
            for (; mayJoin && waiting.Count > 0 && running.Count < MostRunning; waiting.RemoveAt(0))
            {
                waiting[0].Sequence = cache.CreateSequence();
                running.Add(waiting[0]);
            }

            if (cancels && random.Next(20) == 0)
            {
                // By another part of the server, which tells the scheduler nothing.
                running[random.Next(running.Count)].Sequence.Dispose();
            }

            try
            {
                int[] ids = [.. running.SelectMany(request => request.Unread)];
                if (!cache.TryBegin([.. running.Select(r => r.Sequence)], ids, [.. running.Select(r => r.Unread.Length)], out KvStep step))
                {
                    Request last = running[^1];
                    last.Sequence.Dispose();
                    running.Remove(last);
                    waiting.Insert(0, last);
                    (preempted, mayJoin) = (preempted + 1, false);
                    continue;
                }

                _ = BatchTests.Run(step, ids);
                steps++;
            }
            catch (ObjectDisposedException)
            {
                int gone = running.RemoveAll(request => request.Sequence.State.Gate.IsDisposed);
                (cancelled, mayJoin) = (cancelled + gone, mayJoin || gone > 0);
                continue;
            }

            foreach (Request request in running.ToArray())
            {
                if (request.Step())
                {
                    Check(request, format);
                    request.Sequence.Dispose();
                    running.Remove(request);
                    (done, mayJoin) = (done + 1, true);
                }
            }
        }

        Assert.Equal(Requests, done + cancelled);
        Assert.Equal(cancels, cancelled > 0);

        // Each request that leaves lets others join; no more of these are pushed out than run at once.
        Assert.InRange(preempted, 1, Requests * MostRunning);
        Assert.InRange(steps, 1, largest);
        Assert.Equal(default, cache.GetPageCounts());
    }

    private static void Check(Request request, PageFormat format)
    {
        Assert.Equal(Enumerable.Range(request.First, request.Prompt + request.Wanted - 1), request.Sequence.TokenIds.ToArray());
        if (format == PageFormat.F32)
        {
            Assert.Equal(TokenContent.Keys(G, 1, request.Sequence.TokenIds), request.Sequence.Materialized(1).Keys);
        }
    }

    // Its ids are first, first + 1 and so on: as many as the prompt has at once, then one in each step.
    private sealed class Request(int first, int prompt, int wanted)
    {
        private int _given;

        public int First => first;

        public int Prompt => prompt;

        public int Wanted => wanted;

        public KvSequence Sequence { get; set; } = null!;

        public int[] Unread => [.. Enumerable.Range(first, prompt + _given).Skip(Sequence.State.Length)];

        /// <summary>Takes the token that the step gave; true if it was the last.</summary>
        public bool Step() => ++_given == wanted;
    }
}
