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

    // ILGPU's own name of the field with the passes that a context applies to every method before a backend's.
    private const string FirstPasses = "<ContextTransformer>k__BackingField";

    /// <summary>A context of the given devices, at the optimization that all kernels are compiled with.</summary>
    public static Context CreateContext(Action<Context.Builder> addDevices)
    {
        Context context = Context.Create(builder =>
        {
            addDevices(builder);
            builder.Optimize(OptimizationLevel.O2);
        });
        DropDeadBranchesFirst(context);
        return context;
    }

    /// <summary>
    /// <see cref="KeepMemoryOrder(Backend, string)"/> for the backend of an accelerator, a host's own included, and <see cref="DropDeadBranchesFirst"/> for its context.
    /// </summary>
    public static void KeepMemoryOrder(Accelerator accelerator)
    {
        DropDeadBranchesFirst(accelerator.Context);
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

    /// <summary>
    /// Drops the branches that a constant decides right after methods are inlined: kernels over formats and sizes as types have five times as much code before, and ILGPU
    /// else carries it through its slowest passes. The code stays the same. An ILGPU that keeps these passes elsewhere only takes longer.
    /// </summary>
    internal static void DropDeadBranchesFirst(Context context)
    {
        FieldInfo? field = typeof(Context).GetField(FirstPasses, BindingFlags.Instance | BindingFlags.NonPublic);
        if (field?.GetValue(context) is not Transformer passes || passes.Transformations is not [Inliner, not UnreachableCodeElimination, ..])
        {
            return;
        }

        Transformer.Builder builder = Transformer.CreateBuilder(passes.Configuration);
        builder.Add(passes.Transformations[0]);
        builder.Add(new UnreachableCodeElimination());
        builder.Add(new DeadCodeElimination());
        foreach (Transformation pass in passes.Transformations.Skip(1))
        {
            builder.Add(pass);
        }

        field.SetValue(context, builder.ToTransformer());
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
