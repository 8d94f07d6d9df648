using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>ILGPU's CPU accelerator with room for groups of a given size, shared by all tests: it compiles each kernel once.</summary>
internal static class Emulated
{
    private static readonly Context _context = DeviceCompiler.CreateContext(builder => builder.CPU(new CPUDevice(2, 1, 2)).CPU(new CPUDevice(4, 8, 1)));

    // Two multiprocessors that run groups of up to two; one that runs groups of up to 32.
    private static readonly Lazy<Accelerator> _narrow = new(() => Create(2));
    private static readonly Lazy<Accelerator> _wide = new(() => Create(32));

    public static Accelerator For(int groupSize) => groupSize <= 2 ? _narrow.Value : _wide.Value;

    /// <summary>A tier that splits rows early, so that small cases merge many segments.</summary>
    public static PortableTier Tier(KernelShape shape, long arenaBytes, int groupSize, AllocationObserver? observer = null) =>
        SplittingTier.On(For(groupSize), shape, arenaBytes, groupSize, observer);

    private static Accelerator Create(int threads) =>
        _context.Devices.OfType<CPUDevice>().First(d => d.MaxNumThreadsPerGroup >= threads && (threads > 2 || d.MaxNumThreadsPerGroup == 2))
            .CreateAccelerator(_context);
}
