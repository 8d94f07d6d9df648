using System.Diagnostics;

namespace KvCacheGpu.Tests;

/// <summary>Each histogram gets one value for each of what it measures, and no more seconds than have passed.</summary>
public sealed class DurationTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-durations-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Steps_attention_and_seals_are_measured_each()
    {
        using KvCache cache = TestCaches.Simd(G, Options("durations"));
        using var meter = new MeterReader("durations");
        long began = Stopwatch.GetTimestamp();
        using KvSequence sequence = cache.CreateSequence();
        sequence.Decode(1);
        sequence.Decode(2);
        Measured(meter.Read(), began, ("kvcache.step.duration", 2), ("kvcache.attend.duration", 2 * G.Layers), ("kvcache.seal.duration", 0));

        // Pages of 4 tokens are sealed once 4 tokens follow.
        sequence.Feed(3, 4, 5, 6, 7, 8);
        float[] output = new float[4 * 8];
        sequence.Attend(0, new float[4 * 8], output);
        Measured(meter.Read(), began, ("kvcache.step.duration", 1), ("kvcache.attend.duration", 1), ("kvcache.seal.duration", 1));
        using (KvStep step = sequence.Begin([9]))
        {
            TestCaches.AppendAll(step, G, [9]);
            step.EnqueueCommit();
            Measured(meter.Read(), began, ("kvcache.step.duration", 0));
        }

        cache.Settle();
        using (sequence.Begin([10]))
        {
            // Rolled back: not measured.
        }

        Measured(meter.Read(), began, ("kvcache.step.duration", 1), ("kvcache.plan.duration", 0));
    }

    [Fact]
    public void A_plan_is_measured()
    {
        KvCacheOptions options = Options("plans");
        options.Policy = new CountingPolicy(new WindowPolicy(4, 12));
        using KvCache cache = TestCaches.Simd(G, options);
        using var meter = new MeterReader("plans");
        long began = Stopwatch.GetTimestamp();
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 64, chunk: 4);
        int plans = ((CountingPolicy)options.Policy).Plans;
        Assert.True(plans > 3);
        Measured(meter.Read(), began, ("kvcache.plan.duration", plans));
    }

    [Fact]
    public async Task Snapshots_and_swaps_are_measured_and_say_how_they_ended()
    {
        using KvCache cache = TestCaches.Simd(G, Options("snapshots"));
        using var meter = new MeterReader("snapshots");
        long began = Stopwatch.GetTimestamp();
        KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1, 2, 3);
        var store = new SnapshotStore(_folder);
        await cache.SaveAsync(store, "a");
        KvRestored restored = await cache.LoadAsync(store, "a");
        restored.Sequences[0].Dispose();
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(store, "missing"));
        using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        await cache.SwapInAsync(swapped);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => cache.SwapInAsync(swapped));
        IReadOnlyList<MeterReader.Reading> read = meter.Read();
        Measured(read, began, ("kvcache.snapshot.duration", 3), ("kvcache.swap.duration", 3));
        Assert.Equal(
            ["operation=save", "operation=load", "operation=load type=E002", "operation=out", "operation=in", "operation=in type=System.ObjectDisposedException"],
            read.Where(one => one.Instrument is "kvcache.snapshot.duration" or "kvcache.swap.duration").Select(one => one.Text));
    }

    // No timed assertions: no value is below 0, and all of one instrument, one after the other, are not more than what has passed.
    private static void Measured(IReadOnlyList<MeterReader.Reading> read, long began, params (string Instrument, int Count)[] expected)
    {
        double passed = Stopwatch.GetElapsedTime(began).TotalSeconds;
        foreach ((string instrument, int count) in expected)
        {
            double[] values = [.. read.Where(one => one.Instrument == instrument).Select(one => one.Value)];
            Assert.Equal((instrument, count), (instrument, values.Length));
            Assert.All(values, value => Assert.True(value > 0));
            Assert.True(values.Sum() <= passed, $"{instrument}: {values.Sum()} of {passed} s");
        }
    }

    private static KvCacheOptions Options(string name)
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F16);
        (options.Name, options.FullPrecision) = (name, PageFormat.F16);
        return options;
    }

    private sealed class CountingPolicy(WindowPolicy inner) : KvPolicy
    {
        public int Plans { get; private set; }

        public override KvStatistics Needs => inner.Needs;

        public override bool ActsUnasked => inner.ActsUnasked;

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
        {
            Plans++;
            inner.Plan(pages, bytesToFree, plan, state);
        }
    }
}
