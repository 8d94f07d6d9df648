using ILGPU;
using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The order of streams where a thread marks it beside another that enqueues, one after the other as no two threads could be made to.</summary>
public static class StreamOrderProbe
{
    private const int Words = 64;

    /// <summary>Writes 7 on one stream, once the order was marked, and copies that on another. Returns the copy: 7 in every word where the order is kept.</summary>
    public static int[] CopyBehindAMark(Accelerator accelerator)
    {
        ArgumentNullException.ThrowIfNull(accelerator);
        using var link = new DeviceLink(accelerator, null);
        using DeviceBinding bound = link.Bind();
        using MemoryBuffer1D<int, Stride1D.Dense> source = accelerator.Allocate1D<int>(Words), target = accelerator.Allocate1D<int>(Words);
        source.MemSetToZero();
        accelerator.Synchronize();
        Action<AcceleratorStream, Index1D, ArrayView<int>> fill = accelerator.LoadAutoGroupedKernel<Index1D, ArrayView<int>>(Fill);
        using AcceleratorStream one = accelerator.CreateStream(), two = accelerator.CreateStream();
        link.Order.Use(one);
        link.Order.Mark();
        fill(one, Words, source.View.AsContiguous());
        link.Order.Use(two);
        source.View.AsContiguous().CopyTo(two, target.View.AsContiguous());
        two.Synchronize();
        var copy = new int[Words];
        target.View.AsContiguous().CopyToCPU(two, copy);
        two.Synchronize();
        return copy;
    }

    private static void Fill(Index1D i, ArrayView<int> target) => target[i] = 7;
}
