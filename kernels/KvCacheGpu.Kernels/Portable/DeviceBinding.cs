using System.Reflection;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Makes an accelerator the current one of this thread, and after it those that were current before: ILGPU's accelerator, and CUDA's context. A host
/// may change either beside the other, as torch does when it turns to another device; ILGPU would then not notice that its context is no longer current.
/// </summary>
/// <remarks>Costs one call of the driver where the accelerator and its context are current already.</remarks>
internal readonly ref struct DeviceBinding
{
    // ILGPU 1.5.3 has no public way back to "no accelerator".
    private static readonly Action<Accelerator?>? _setCurrent = typeof(Accelerator)
        .GetProperty(nameof(Accelerator.Current), BindingFlags.Static | BindingFlags.Public)?.GetSetMethod(nonPublic: true)?.CreateDelegate<Action<Accelerator?>>();

    private readonly CudaDriver? _driver;
    private readonly Accelerator _bound;
    private readonly Accelerator? _before;
    private readonly nint _contextBefore;

    /// <summary>Makes an accelerator current.</summary>
    /// <exception cref="ObjectDisposedException">Its owner has disposed it.</exception>
    public DeviceBinding(Accelerator accelerator)
    {
        if (accelerator.IsDisposed)
        {
            throw new ObjectDisposedException(nameof(Accelerator), $"expected the live accelerator that the cache works on ({accelerator.Name}), got one that was disposed");
        }

        (_bound, _before) = (accelerator, Accelerator.Current);
        if (accelerator is CudaAccelerator)
        {
            _driver = CudaDriver.Current;
            _contextBefore = _driver.CurrentContext;
            if (_contextBefore != accelerator.NativePtr)
            {
                _driver.SetCurrentContext(accelerator.NativePtr);
            }
        }

        if (_before != accelerator)
        {
            _setCurrent!(accelerator);
        }
    }

    /// <summary>Leaves a thread without a current accelerator, as it was before ILGPU bound one.</summary>
    public static void Reset(Accelerator? accelerator) => _setCurrent!(accelerator);

    /// <summary>Refuses an ILGPU that keeps the current accelerator elsewhere.</summary>
    /// <exception cref="NotSupportedException">It does.</exception>
    public static void ThrowIfUnknown()
    {
        if (_setCurrent is null)
        {
            throw new NotSupportedException($"ILGPU {typeof(Accelerator).Assembly.GetName().Version} keeps a thread's current accelerator elsewhere; use ILGPU 1.5.3");
        }
    }

    /// <summary>Makes current again what was before.</summary>
    public void Dispose()
    {
        if (_before != _bound)
        {
            _setCurrent!(_before);
        }

        if (_driver is not null && _contextBefore != _bound.NativePtr)
        {
            _driver.RestoreContext(_contextBefore);
        }
    }
}
