using System.Reflection;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using ILGPU.Util;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// ILGPU's accelerator of a CUDA device in the device's primary context: the context that torch and the CUDA runtime use, so that their pointers and
/// streams are of the same context as the accelerator's own. <see cref="KvDevice.CreatePrimaryAccelerator"/> makes one.
/// </summary>
/// <remarks>
/// Dispose this object, which disposes the accelerator; disposed by itself, that holds on to the primary context until this object is disposed. The primary context
/// lives on as long as others hold it. Thread safety: as that of ILGPU's accelerators; dispose it when no other thread uses it.
/// </remarks>
public sealed class KvPrimaryAccelerator : IDisposable
{
    private const BindingFlags Hidden = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    // ILGPU 1.5.3 gives every CUDA accelerator a context of its own, and offers no public way to another one.
    private static readonly MethodInfo? _setPointer = typeof(Accelerator).GetProperty(nameof(ILGPU.Runtime.Accelerator.NativePtr), Hidden)?.GetSetMethod(nonPublic: true);

    // Disposes as the finalizer does: without an exception for the context, which it is not given.
    private static readonly MethodInfo? _disposeQuietly = typeof(DisposeBase).GetMethod("DisposeDriver", Hidden, [typeof(bool)]);

    private readonly CudaDriver _driver;
    private int _disposed;

    private KvPrimaryAccelerator(CudaAccelerator accelerator, CudaDriver driver, nint context)
    {
        (Accelerator, _driver, Context) = (accelerator, driver, context);
        accelerator.Disposed += (_, _) => KeepContext();
    }

    /// <summary>The accelerator. Its memory, streams and kernels end with <see cref="Dispose"/>.</summary>
    public CudaAccelerator Accelerator { get; }

    /// <summary>The primary context (CUcontext).</summary>
    public nint Context { get; }

    /// <summary>Ordinal of the device.</summary>
    public int Ordinal => Accelerator.DeviceId;

    /// <summary>Makes an accelerator, lets go of the context that ILGPU made for it, and gives it the primary one.</summary>
    /// <exception cref="KvUnsupportedException">E009: this ILGPU keeps an accelerator's context elsewhere.</exception>
    internal static KvPrimaryAccelerator Create(CudaDevice device, Context context)
    {
        if (_setPointer is null || _disposeQuietly is null)
        {
            string version = $"ILGPU {typeof(Accelerator).Assembly.GetName().Version}, which keeps an accelerator's context elsewhere";
            throw new KvUnsupportedException("the primary context of a CUDA device", "ILGPU 1.5.3", version);
        }

        CudaDriver driver = CudaDriver.Current;
        (Accelerator? before, nint contextBefore) = (ILGPU.Runtime.Accelerator.Current, driver.CurrentContext);
        nint primary = driver.RetainPrimaryContext(device.DeviceId);
        try
        {
            CudaAccelerator accelerator = device.CreateCudaAccelerator(context);
            nint made = accelerator.NativePtr;
            SetPointer(accelerator, primary);
            // Nothing lies in it yet: the default stream is the null stream of whichever context is current. On a GPU a context takes hundreds of MB.
            driver.DestroyContext(made);
            return new KvPrimaryAccelerator(accelerator, driver, primary);
        }
        catch
        {
            driver.ReleasePrimaryContext(device.DeviceId);
            throw;
        }
        finally
        {
            DeviceBinding.Reset(before);
            driver.RestoreContext(contextBefore);
        }
    }

    /// <summary>Frees what the accelerator holds, and gives the primary context back.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        (Accelerator? before, nint contextBefore) = (ILGPU.Runtime.Accelerator.Current, _driver.CurrentContext);
        try
        {
            if (!Accelerator.IsDisposed)
            {
                _disposeQuietly!.Invoke(Accelerator, BindingFlags.DoNotWrapExceptions, null, [false], null);
            }
        }
        finally
        {
            _driver.ReleasePrimaryContext(Ordinal);
            DeviceBinding.Reset(before == Accelerator ? null : before);
            bool isGone = contextBefore == Context && !_driver.IsPrimaryContextActive(Ordinal);
            _driver.RestoreContext(isGone ? 0 : contextBefore);
        }
    }

    private static void SetPointer(CudaAccelerator accelerator, nint context) =>
        _setPointer!.Invoke(accelerator, BindingFlags.DoNotWrapExceptions, null, [context], null);

    // Called as ILGPU begins to dispose the accelerator. Its memory, streams and modules are freed in the context that is current; the context that it
    // then destroys by its pointer must not be the primary one. Without an error it destroys a real one only, where its owner has disposed it by itself.
    private void KeepContext()
    {
        nint spare = Volatile.Read(ref _disposed) != 0 ? 0 : _driver.CreateContext(Ordinal);
        Accelerator.Bind();
        _driver.SetCurrentContext(Context);
        SetPointer(Accelerator, spare);
    }
}
