using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.OffloadCaches;
using Half = System.Half;

namespace KvCacheGpu.Tests;

/// <summary>Pages that are copied to the device before an attention asks, and queries and outputs that never leave it.</summary>
public sealed class PrefetchedPagesTests
{
    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);

    /// <summary>The host waits between layers until the copy has come: then every page is there when it is asked for.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData(3)]
    public void Pages_of_the_next_layer_come_while_the_host_computes(int? selected)
    {
        (KvCache[] caches, KvSequence[] sequences) = ([Filled(true, selected), Filled(false, selected)], new KvSequence[2]);
        for (int i = 0; i < 2; i++)
        {
            sequences[i] = caches[i].CreateSequence();
            for (int first = 0; first < 320; first += 8)
            {
                Step(sequences[i], [.. Enumerable.Range(first, 8)]);
            }
        }

        KvOffloadCounts before = caches[0].GetOffloadCounts();
        for (int id = 1000; id < 1010; id++)
        {
            Assert.Equal(Step(sequences[1], [id]), Step(sequences[0], [id], betweenLayers: () => Settle(caches[0])));
        }

        KvOffloadCounts after = caches[0].GetOffloadCounts();
        long ahead = after.Prefetched - before.Prefetched;
        Assert.True(ahead > 20, $"{before} {after}");

        // Which pages queries choose next can only be guessed.
        Assert.True(selected is not null || (after.PrefetchedUsed - before.PrefetchedUsed > ahead * 8 / 10 && after.Fetched - before.Fetched < ahead / 4), $"{before} {after}");
        Assert.True(selected is null || after.LeftOut > 0);
        Assert.Equal((0, 0, 0), (caches[1].GetOffloadCounts().Prefetched, caches[1].GetOffloadCounts().Late, caches[1].GetOffloadCounts().PrefetchedUsed));
        Array.ForEach(sequences, sequence => sequence.Dispose());
        Array.ForEach(caches, cache => cache.Dispose());
    }

    [Fact]
    public void A_copy_that_fails_ahead_harms_nothing_and_a_cache_is_disposed_while_one_is_under_way()
    {
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, F16, 600));
        using KvSequence expected = whole.CreateSequence();
        KvCache cache = Filled(true, null);
        KvSequence sequence = cache.CreateSequence();
        Feed(sequence, expected, 0, 160);
        int calls = 0;
        int thread = Environment.CurrentManagedThreadId;
        cache.State.Offload!.Stage.Copying = _ =>
        {
            calls++;
            if (Environment.CurrentManagedThreadId != thread)
            {
                throw new InvalidOperationException("expected a device, got none");
            }
        };
        Feed(sequence, expected, 160, 160);
        Assert.True(calls > 0);
        Assert.Equal(0, cache.GetOffloadCounts().LeftOut);
        cache.State.Offload!.Stage.Copying = _ => Thread.Sleep(1);
        Feed(sequence, expected, 320, 8);
        cache.Dispose();
    }

    [Theory]
    [InlineData(null)]
    [InlineData(2)]
    public void Queries_and_outputs_may_lie_on_the_device(int? selected)
    {
        using Context context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        KvCacheOptions options = Offloading(Flat, "lru", F16, 600, stagedPages: 16);
        options.Offload = options.Offload! with { SelectedPages = selected };
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, OnDevice, Flat) + 60_000;
        using KvCache cache = OnDevice(Flat, options);
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => TestCaches.Simd(g, o), Flat) + 60_000;
        using KvCache simd = TestCaches.Simd(Flat, options);
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = simd.CreateSequence();
        for (int first = 0; first < 240; first += 8)
        {
            int[] ids = [.. Enumerable.Range(first, 8)];
            AreClose(Step(expected, ids), Step(sequence, ids));
        }

        int width = Flat.QueryHeads * Flat.ValueWidth;
        using MemoryBuffer1D<float, Stride1D.Dense> output = accelerator.Allocate1D<float>(2 * width);
        float[] queries = TokenContent.Queries(Flat, 1, [77, 78]);
        float[] inHost = new float[2 * width];
        expected.Attend(1, queries, inHost);

        // Halves with room between tokens: what is read back keeps its strides.
        Half[] spread = new Half[2 * (width + 8)];
        for (int i = 0; i < queries.Length; i++)
        {
            spread[i + (i / width * 8)] = (Half)queries[i];
        }

        using MemoryBuffer1D<Half, Stride1D.Dense> halves = accelerator.Allocate1D(spread);
        var onDevice = KvTensor.FromDevice(halves.View.AsContiguous().Cast<byte>(), TensorType.F16, tokenStride: width + 8);
        float[] read = new float[2 * width];
        float[] readSums = new float[2 * Flat.QueryHeads];
        sequence.Attend(1, onDevice, KvOutput.FromHost(read, readSums));
        long before = cache.GetOffloadCounts().LeftOut;
        using MemoryBuffer1D<float, Stride1D.Dense> sums = accelerator.Allocate1D<float>(readSums.Length);
        sequence.Attend(1, onDevice, KvOutput.FromDevice(output.View.AsContiguous(), sums.View.AsContiguous()));
        accelerator.Synchronize();

        // Of several launches or of one, an output on the device is the one in host memory.
        Assert.Equal(selected is not null, cache.GetOffloadCounts().LeftOut > before);
        Assert.Equal(read, output.GetAsArray1D());
        Assert.Equal(readSums, sums.GetAsArray1D());
        Assert.True(selected is not null || inHost.Zip(read, (x, y) => Math.Abs(x - y)).Max() < 1e-5);
        using MemoryBuffer1D<Half, Stride1D.Dense> narrow = accelerator.Allocate1D<Half>(2 * width);
        sequence.Attend(1, onDevice, KvOutput.FromDevice(narrow.View.AsContiguous().Cast<byte>(), TensorType.F16));
        accelerator.Synchronize();
        Assert.Equal(read.Select(x => (Half)x), narrow.GetAsArray1D());

        KvCache OnDevice(KvGeometry geometry, KvCacheOptions own) => new(geometry, own, (shape, bytes, seen) => new PortableTier(accelerator, shape, bytes, 2, seen));
    }

    private static KvCache Filled(bool prefetches, int? selected)
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        options.EnablePrefetch = prefetches;
        options.Offload = options.Offload! with { SelectedPages = selected, StagedPages = selected is null ? 160 : 12 };
        return TestCaches.Simd(Flat, options);
    }

    // Until as many were copied as will be: the worker has nothing left to do.
    private static void Settle(KvCache cache)
    {
        Assert.True(SpinWait.SpinUntil(() => cache.State.Offload!.Ahead!.IsIdle, TimeSpan.FromSeconds(30)));
    }
}
