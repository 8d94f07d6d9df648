using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// Forbids access to arena memory, if the CUDA driver under test offers that: a kernel that reads or writes it ends its launch with an
/// error, and a copy is refused. Work that was enqueued before is not affected.
/// </summary>
internal sealed unsafe class DevicePoison
{
    private readonly delegate* unmanaged<ulong, nuint, int> _mark;
    private readonly delegate* unmanaged<ulong, nuint, int> _heal;
    private readonly Accelerator _accelerator;
    private readonly ulong _arena;

    private DevicePoison(PortableTier tier, IntPtr mark, IntPtr heal)
    {
        _mark = (delegate* unmanaged<ulong, nuint, int>)mark;
        _heal = (delegate* unmanaged<ulong, nuint, int>)heal;
        _accelerator = tier.Link.Accelerator;
        _arena = (ulong)((IContiguousArrayView)tier.Arena).Buffer.NativePtr;
    }

    /// <summary>The poison of a tier's arena; null if its device has none.</summary>
    public static DevicePoison? Of(KernelTier tier) =>
        tier is PortableTier { Link.Accelerator: CudaAccelerator } portable
        && NativeLibrary.TryLoad("libcuda.so.1", out IntPtr driver)
        && NativeLibrary.TryGetExport(driver, "simcudaPoison", out IntPtr mark)
        && NativeLibrary.TryGetExport(driver, "simcudaUnpoison", out IntPtr heal)
            ? new DevicePoison(portable, mark, heal)
            : null;

    /// <summary>Forbids words of the arena.</summary>
    public void Mark(long word, long words) => Call(_mark, word, words);

    /// <summary>Allows words of the arena again.</summary>
    public void Heal(long word, long words) => Call(_heal, word, words);

    private void Call(delegate* unmanaged<ulong, nuint, int> function, long word, long words)
    {
        _accelerator.Bind();
        int error = function(_arena + ((ulong)word * sizeof(int)), (nuint)words * sizeof(int));
        if (error != 0)
        {
            throw new InvalidOperationException($"the driver refuses to poison {words} words at {word}: error {error}");
        }
    }
}
