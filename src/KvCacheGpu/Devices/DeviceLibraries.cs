using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>ILGPU's view of this machine's devices: made once, after the drivers' names are mapped.</summary>
internal static class DeviceLibraries
{
    private static readonly Lazy<Context> _context = new(CreateContext);
    private static readonly Lazy<bool> _mapped = new(MapDriverNames);

    /// <summary>
    /// One context for the process; accelerators belong to tiers. Under WSL every further context with CUDA would throw, because ILGPU 1.5.3
    /// sets its own resolver each time.
    /// </summary>
    public static Context Context => _context.Value;

    /// <summary>Makes ILGPU find drivers that only runtime packages have installed. Does so once.</summary>
    public static void FindDrivers() => _ = _mapped.Value;

    private static Context CreateContext()
    {
        FindDrivers();
        return DeviceCompiler.CreateContext(builder => builder
            .Cuda(_ => true)
            .OpenCL(_ => true)
            .CPU(new CPUDevice(2, 1, Math.Max(1, Environment.ProcessorCount))));
    }

    // Runtime packages install libcuda.so.1 and libOpenCL.so.1 only; ILGPU asks for "cuda" and "OpenCL" and, not finding them, lists nothing.
    private static bool MapDriverNames()
    {
        if (!OperatingSystem.IsLinux() || IsWsl())
        {
            return false;
        }

        try
        {
            NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, Resolve);
            return true;
        }
        catch (InvalidOperationException)
        {
            // The host application has its own resolver for ILGPU; names are its business then.
            return false;
        }
    }

    private static bool IsWsl() => File.Exists("/proc/sys/fs/binfmt_misc/WSLInterop") || Directory.Exists("/usr/lib/wsl/lib");

    private static IntPtr Resolve(string name, Assembly assembly, DllImportSearchPath? path)
    {
        string? versioned = name switch
        {
            "cuda" => "libcuda.so.1",
            "OpenCL" => "libOpenCL.so.1",
            _ => null,
        };
        return versioned is not null && NativeLibrary.TryLoad(versioned, assembly, path, out IntPtr handle) ? handle : IntPtr.Zero;
    }
}
