using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The lists of pages that launches copy, in page-locked memory, from which the device reads them: a few, taken in turn. One is written again once the launches that read it have ended. Callers hold the tier's lock.
/// </summary>
internal sealed class TransferLists : IDisposable
{
    private const int MostPages = 1024;
    private const int Lists = 4;
    private const int Words = MostPages * TransferKernels.ListWords;

    private readonly PageLockedArray1D<int> _memory;
    private readonly CudaDriver? _driver;
    private readonly Accelerator _accelerator;
    private readonly nint[] _ends = new nint[Lists];
    private long _taken;

    public TransferLists(DeviceLink link)
    {
        _accelerator = link.Accelerator;
        _memory = link.Pin<int>(Lists * Words);
        _driver = _accelerator is CudaAccelerator ? CudaDriver.Current : null;
        for (int i = 0; i < Lists && _driver is not null; i++)
        {
            _ends[i] = _driver.CreateEvent();
        }
    }

    private int Current => (int)((_taken - 1) % Lists);

    /// <summary>Lists the first pages, as many as fit.</summary>
    public ArrayView<int> Take(ReadOnlySpan<PageTransfer> pages, out int count)
    {
        _taken++;
        if (_taken > Lists)
        {
            _driver?.WaitFor(_ends[Current]);
        }

        count = Math.Min(pages.Length, MostPages);
        Span<int> list = _memory.Span.Slice(Current * Words, count * TransferKernels.ListWords);
        for (int i = 0; i < count; i++)
        {
            int at = i * TransferKernels.ListWords;
            (list[at], list[at + 1], list[at + 2]) = (pages[i].Slot, pages[i].Unit, pages[i].Units);
        }

        return _memory.ArrayView.SubView(Current * Words, list.Length);
    }

    /// <summary>The launches that read the list were enqueued.</summary>
    /// <returns>An event behind them; 0 where they have ended.</returns>
    public nint End(AcceleratorStream stream)
    {
        _driver?.Record(_ends[Current], ((CudaStream)stream).StreamPtr);
        return _ends[Current];
    }

    public void Dispose()
    {
        foreach (nint end in _accelerator.IsDisposed || _driver is null ? [] : _ends)
        {
            _driver!.DestroyEvent(end);
        }

        _memory.Dispose();
    }
}
