using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ILGPU;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Shows ILGPU the CUDA driver under test.</summary>
internal static class CudaDriver
{
    // ILGPU looks for a driver once in a process, by another name than the file has: before any test.
#pragma warning disable CA2255 // This assembly is the application, as far as tests go.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Map()
    {
        if (TestCuda.Folder is { } folder)
        {
            IntPtr driver = NativeLibrary.Load(Path.Combine(folder, "libcuda.so.1"));
            NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, (name, _, _) => name == "cuda" ? driver : IntPtr.Zero);
        }
    }
}
