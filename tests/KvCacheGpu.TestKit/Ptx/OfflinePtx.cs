using System.Reflection;
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Compiles kernels to PTX as the CUDA accelerator would, without a GPU.</summary>
public sealed class OfflinePtx : IDisposable
{
    private readonly Context _context;
    private readonly PTXBackend _backend;

    /// <summary>
    /// Makes a compiler for one of <see cref="Architectures"/>. Without <paramref name="keepsMemoryOrder"/> it has all passes of ILGPU, to show
    /// the effect of those that the tiers leave out.
    /// </summary>
    public OfflinePtx(string architecture, bool keepsMemoryOrder = true)
    {
        CudaArchitecture target = architecture switch
        {
            "sm_80" => CudaArchitecture.SM_80,
            "sm_90" => CudaArchitecture.SM_90,
            _ => throw new ArgumentOutOfRangeException(nameof(architecture), architecture, "expected sm_80 or sm_90"),
        };
        _context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        _backend = new PTXBackend(_context, new CudaCapabilityContext(target), target, new CudaInstructionSet(8, 4), null);
        if (keepsMemoryOrder)
        {
            DeviceCompiler.KeepMemoryOrder(_backend);
        }
    }

    /// <summary>Ampere and Hopper, for which the kernels must compile.</summary>
    public static IReadOnlyList<string> Architectures { get; } = ["sm_80", "sm_90"];

    /// <summary>Every portable kernel that a tier can load.</summary>
    public static IEnumerable<(string Name, MethodInfo Method)> Portable => PortableKernels.All();

    /// <summary>Kernels with their launch bounds: every portable one, which has none, and samples of those of tensor cores.</summary>
    public static IEnumerable<(string Name, MethodInfo Method, KernelSpecialization Bounds)> Kernels =>
    [
        .. Portable.Select(kernel => (kernel.Name, kernel.Method, default(KernelSpecialization))),
        .. CudaMoves.All().Select(kernel => (kernel.Name, kernel.Method, default(KernelSpecialization))),
        .. TensorKernels.Samples().Select(kernel => (kernel.Name, kernel.Method, kernel.Specialization)),
    ];

    /// <summary>The PTX of a kernel, with launch bounds if it has any.</summary>
    public string Compile(MethodInfo kernel, KernelSpecialization bounds = default)
    {
        string ptx = ((PTXCompiledKernel)_backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(kernel), bounds)).PTXAssembly;

        // What ILGPU keeps of a kernel may be a hundred megabytes.
        _context.ClearCache(ClearCacheMode.Everything);
        return ptx;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _backend.Dispose();
        _context.Dispose();
    }
}
