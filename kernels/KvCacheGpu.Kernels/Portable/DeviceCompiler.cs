using System.Collections.Immutable;
using System.Reflection;
using ILGPU;
using ILGPU.Backends;
using ILGPU.IR.Transformations;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;

namespace KvCacheGpu.Kernels;

/// <summary>How ILGPU compiles the kernels: every context is made here, and every accelerator and backend is set right here.</summary>
internal static class DeviceCompiler
{
    /// <summary>ILGPU's own name of the passes that a backend applies to a kernel; it gives no public way to change them.</summary>
    internal const string Passes = "KernelTransformers";

    /// <summary>A context of the given devices, at the optimization that all kernels are compiled with.</summary>
    public static Context CreateContext(Action<Context.Builder> addDevices) => Context.Create(builder =>
    {
        addDevices(builder);
        builder.Optimize(OptimizationLevel.O2);
    });

    /// <summary><see cref="KeepMemoryOrder(Backend, string)"/> for the backend of an accelerator, a host's own included.</summary>
    public static void KeepMemoryOrder(Accelerator accelerator)
    {
        switch (accelerator)
        {
            case CudaAccelerator cuda:
                KeepMemoryOrder(cuda.Backend);
                break;
            case CLAccelerator openCl:
                KeepMemoryOrder(openCl.Backend);
                break;
            case CPUAccelerator:
                // Runs the method that the C# compiler made, and none of ILGPU's passes.
                break;
            default:
                throw Unknown($"{accelerator.GetType()} is an accelerator of an unknown kind");
        }
    }

    /// <summary>True if ILGPU keeps its passes where <see cref="KeepMemoryOrder(Accelerator)"/> looks for them.</summary>
    public static bool CanKeepMemoryOrder =>
        typeof(Backend).GetProperty(Passes, BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public) is { CanWrite: true } property
        && property.PropertyType == typeof(ImmutableArray<Transformer>);

    /// <summary>
    /// Leaves one pass out of a backend: ILGPU 1.5.3 ends O2 with a code placement that moves a load behind the first store or barrier of
    /// the block that it moves it to, so that a kernel reads the new value instead of the old one. Kernels that are compiled already stay as they are.
    /// </summary>
    /// <param name="backend">The backend.</param>
    /// <param name="passes">The property that holds its passes.</param>
    /// <exception cref="NotSupportedException">This ILGPU keeps its passes elsewhere: its code could be wrong without a sign.</exception>
    internal static void KeepMemoryOrder(Backend backend, string passes = Passes)
    {
        PropertyInfo property = typeof(Backend).GetProperty(passes, BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)
            ?? throw Unknown($"{typeof(Backend)} has no property {passes}");
        if (property.GetValue(backend) is not ImmutableArray<Transformer> { IsDefault: false } transformers || !property.CanWrite)
        {
            throw Unknown($"{typeof(Backend)}.{passes} is not the list of passes that was expected");
        }

        if (transformers.Any(t => t.Transformations.Any(MovesMemory)))
        {
            property.SetValue(backend, ImmutableArray.CreateRange(transformers, Without));
        }
    }

    private static bool MovesMemory(Transformation pass) => pass is CodePlacement { Mode: CodePlacementMode.Aggressive };

    private static Transformer Without(Transformer transformer)
    {
        Transformer.Builder builder = Transformer.CreateBuilder(transformer.Configuration);
        foreach (Transformation pass in transformer.Transformations)
        {
            if (!MovesMemory(pass))
            {
                builder.Add(pass);
            }
        }

        return builder.ToTransformer();
    }

    private static NotSupportedException Unknown(string what) => new(
        $"ILGPU {typeof(Context).Assembly.GetName().Version} may compile kernels wrongly: {what}; use ILGPU 1.5.3");
}
