using System.Reflection;
using System.Text.RegularExpressions;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.TestKit;
using Group = ILGPU.Group;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>A load stays before the store and the barrier behind it, whatever ILGPU's passes would like.</summary>
public sealed class MemoryOrderTests
{
    private const int Before = 500;

    public static TheoryData<string> Architectures => [.. OfflinePtx.Architectures];

    [Theory]
    [MemberData(nameof(Architectures))]
    public void Compiled_code_loads_before_it_stores(string architecture)
    {
        using var compiler = new OfflinePtx(architecture);
        Assert.Equal("store load store", Order(compiler, nameof(TakeAndReplace), "global"));
        Assert.Equal("store bar load bar", Order(compiler, nameof(TakeAcrossBarrier), "shared"));
    }

    // The day this fails, ILGPU has mended its pass, and DeviceCompiler need not leave it out.
    [Fact]
    public void As_ilgpu_comes_it_stores_first()
    {
        using var compiler = new OfflinePtx("sm_90", keepsMemoryOrder: false);
        Assert.Equal("store store load", Order(compiler, nameof(TakeAndReplace), "global"));
        Assert.Equal("store bar bar load", Order(compiler, nameof(TakeAcrossBarrier), "shared"));
    }

    [Fact]
    public void A_backend_without_the_passes_that_are_known_is_refused()
    {
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using var backend = new PTXBackend(
            context, new CudaCapabilityContext(CudaArchitecture.SM_90), CudaArchitecture.SM_90, new CudaInstructionSet(8, 4), null);
        Assert.Contains("ILGPU 1.5", Assert.Throws<NotSupportedException>(() => DeviceCompiler.KeepMemoryOrder(backend, "Passes")).Message, StringComparison.Ordinal);
        Assert.Contains("PointerSize", Assert.Throws<NotSupportedException>(() => DeviceCompiler.KeepMemoryOrder(backend, "PointerSize")).Message, StringComparison.Ordinal);
    }

    /// <summary>A tier sets right whichever accelerator it is given: here a host's own.</summary>
    [CudaFact]
    public void On_cuda_a_tier_keeps_the_order_on_a_hosts_accelerator()
    {
        using Context context = Context.Create(builder => builder.Cuda().Optimize(OptimizationLevel.O2));
        using Accelerator accelerator = context.Devices.OfType<CudaDevice>().First().CreateAccelerator(context);
        using var link = new DeviceLink(accelerator, null);
        using MemoryBuffer1D<int, Stride1D.Dense> result = accelerator.Allocate1D<int>(96);

        result.MemSetToZero(link.Stream);
        accelerator.LoadKernel<ArrayView<int>, int>(TakeAndReplace)(link.Stream, new KernelConfig(1, 1), result.View.AsContiguous(), 5);
        link.Synchronize();
        Assert.Equal([11, 1], result.GetAsArray1D()[..2]);

        var config = new KernelConfig(1, 96, SharedMemoryConfig.RequestDynamic<int>(96));
        accelerator.LoadKernel<ArrayView<int>, int>(TakeAcrossBarrier)(link.Stream, config, result.View.AsContiguous(), 2);
        link.Synchronize();
        Assert.Equal(Enumerable.Repeat(1, 96), result.GetAsArray1D());
    }

    /// <summary>One thread takes an element, puts another in its place, and looks at what it took.</summary>
    internal static void TakeAndReplace(ArrayView<int> result, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            result[0] = Before + i;
        }

        int taken = result[0];
        result[0] = 11;
        if (taken != 11)
        {
            result[1] = 1;
        }
        else
        {
            result[1] = 2;
        }
    }

    /// <summary>Every thread takes element 0; after a barrier the vector is written again.</summary>
    internal static void TakeAcrossBarrier(ArrayView<int> result, int rounds)
    {
        ArrayView<int> shared = SharedMemory.GetDynamic<int>();
        shared[Group.IdxX] = Before;
        for (int i = 0; i < rounds; i++)
        {
            Group.Barrier();
        }

        int taken = shared[0];
        Group.Barrier();
        if (taken == Before)
        {
            shared[Group.IdxX] = 11;
            result[Group.IdxX] = 1;
        }
        else
        {
            result[Group.IdxX] = 2;
        }
    }

    // The order of loads, stores and barriers in an address space, up to the branch on the value that was loaded.
    private static string Order(OfflinePtx compiler, string kernel, string space)
    {
        string ptx = compiler.Compile(typeof(MemoryOrderTests).GetMethod(kernel, BindingFlags.Static | BindingFlags.NonPublic)!);
        IEnumerable<string> steps = Regex.Matches(ptx, $@"\b(?<what>ld|st)\.{space}\b|\b(?<what>bar)\.sync")
            .Select(m => m.Groups["what"].Value switch { "ld" => "load", "st" => "store", _ => "bar" });
        int last = kernel == nameof(TakeAndReplace) ? 3 : 4;
        return string.Join(' ', steps.Take(last));
    }
}
