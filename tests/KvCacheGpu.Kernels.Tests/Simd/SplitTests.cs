using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Rows long enough to be split into segments, and loops that threads share.</summary>
public class SplitTests
{
    public static TheoryData<SimdLevel, int, int, int, int> Rows => new()
    {
        { SimdLevel.Vector512, 4, 2, 64, 5_003 },
        { SimdLevel.Vector512, 1, 2, 16, 2_049 },
        { SimdLevel.Vector256, 3, 2, 64, 3_100 },
        { SimdLevel.Scalar, 4, 2, 128, 2_048 },

        // A group of more queries than a tile: several tiles of each segment arrive before the results are merged.
        { SimdLevel.Vector512, 40, 2, 64, 3_111 },

        // The same with more KV heads than there are places for split rows.
        { SimdLevel.Vector512, 40, 7, 64, 2_100 },
    };

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_row_in_segments_equals_the_oracle_whatever_the_threads(SimdLevel level, int group, int kvHeads, int pageTokens, int tokens)
    {
        var geometry = new KvGeometry(1, kvHeads * group, kvHeads, 16, 24, pageTokens);
        var data = new SequenceData(geometry, tokens, seed: 11);
        Attention one = Run(threads: 1), three = Run(threads: 3);
        Assert.Equal(one.Output, three.Output);
        Assert.Equal(one.LogSumExp, three.LogSumExp);

        Attention Run(int threads)
        {
            int pages = geometry.PagesFor(tokens);
            using var harness = new TierHarness(
                (shape, bytes) => new SimdTier(shape, bytes, level, threads), Shapes.Encoded(geometry, PageFormat.F16, 1, pages), 2 * kvHeads * (pages + 10));
            HarnessSequence sequence = harness.Add(data);
            for (int done = 0; done < tokens - 1;)
            {
                int chunk = Math.Min(1000, tokens - 1 - done);
                harness.Fill(sequence, chunk);
                done += chunk;
            }

            harness.Begin((sequence, 1));
            harness.Append(0);
            Attention got = harness.Attend(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), got, sequence);
            Assert.Equal(got.Output, harness.Attend(0).Output);
            return got;
        }
    }

    [Fact]
    public void Segments_depend_on_the_row_alone_and_are_bounded()
    {
        Assert.Equal(1, SimdBatch.SegmentsOf(31, 64));
        Assert.Equal(2, SimdBatch.SegmentsOf(32, 64));
        Assert.Equal(16, SimdBatch.SegmentsOf(1 << 20, 64));
    }

    [Fact]
    public void A_pool_does_each_item_once_and_passes_exceptions_on()
    {
        using var pool = new WorkerPool(3);
        var work = new Counting();
        for (int run = 0; run < 2_000; run++)
        {
            int items = 1 + (run % 17);
            work.Start(items);
            pool.Run(work, items);
            Assert.All(work.Done, count => Assert.Equal(1, count));
        }

        work.Start(8);
        work.Fail = true;
        Assert.Equal("item 5", Assert.Throws<InvalidOperationException>(() => pool.Run(work, 8)).Message);
        work.Fail = false;
        work.Start(8);
        pool.Run(work, 8);
        Assert.All(work.Done, count => Assert.Equal(1, count));
    }

    [Fact]
    public void Callers_that_find_the_pool_at_work_do_their_items_themselves()
    {
        using var pool = new WorkerPool(2);
        Parallel.For(0, 4, _ =>
        {
            var work = new Counting();
            for (int run = 0; run < 500; run++)
            {
                work.Start(9);
                pool.Run(work, 9);
                Assert.All(work.Done, count => Assert.Equal(1, count));
            }
        });
    }

    private sealed class Counting : ParallelWork
    {
        public int[] Done { get; private set; } = [];

        public bool Fail { get; set; }

        public void Start(int items) => Done = new int[items];

        public override void Do(int item, int worker)
        {
            Interlocked.Increment(ref Done[item]);
            if (Fail && item == 5)
            {
                throw new InvalidOperationException("item 5");
            }
        }
    }
}
