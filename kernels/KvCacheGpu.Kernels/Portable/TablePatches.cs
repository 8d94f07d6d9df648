using System.Collections;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The host's copy of the tables and the words written since the device last heard of them. Callers hold the tier's lock.
/// </summary>
internal sealed unsafe class TablePatches : IDisposable
{
    private const int MaxPending = 1 << 14;

    private readonly DeviceLink _link;
    private readonly AllocationObserver? _observer;
    private readonly int _tableWords;
    private readonly int _capacity;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _device;
    private readonly PageLockedArray1D<int> _pinned;
    private readonly ScatterLauncher _scatter;
    private readonly int _groupSize;
    private readonly int[] _words;

    // By table word: each is noted once, so that no two threads of the scatter write the same one.
    private readonly BitArray _isNoted;
    private int _pending;
    private long _epoch;

    public TablePatches(DeviceLink link, int tableWords, int groupSize, AllocationObserver? observer)
    {
        (_link, _tableWords, _groupSize, _observer) = (link, tableWords, groupSize, observer);
        _capacity = Math.Min(tableWords, MaxPending);
        _words = new int[_capacity];
        _isNoted = new BitArray(tableWords);
        _scatter = link.Accelerator.LoadKernel<ScatterLauncher>(PortableKernels.Scatter);
        _device = link.Allocate<int>(AllocationKind.Scratch, 2L * _capacity);
        _pinned = link.Pin<int>(2L * _capacity);
        Tables = (int*)NativeMemory.AllocZeroed((nuint)tableWords, sizeof(int));
        observer?.Invoke(AllocationKind.Bookkeeping, (long)tableWords * sizeof(int));
    }

    /// <summary>The host's copy.</summary>
    public int* Tables { get; private set; }

    /// <summary>Writes a word here and notes it for the device.</summary>
    public void Write(int word, int value, ArrayView<int> arena)
    {
        if ((uint)word >= (uint)_tableWords)
        {
            throw new ArgumentOutOfRangeException(nameof(word), word, $"expected a table word of 0..{_tableWords - 1}");
        }

        Tables[word] = value;
        if (_isNoted[word])
        {
            return;
        }

        _isNoted[word] = true;
        _words[_pending++] = word;
        if (_pending == _capacity)
        {
            Flush(arena);
        }
    }

    /// <summary>Brings the device's tables up to date: one copy and one launch.</summary>
    public void Flush(ArrayView<int> arena)
    {
        if (_pending == 0)
        {
            return;
        }

        _link.WaitFor(_epoch);
        Span<int> pinned = _pinned.Span;
        for (int i = 0; i < _pending; i++)
        {
            // The value at this moment, however often the word was written since it was noted.
            pinned[i] = _words[i];
            pinned[_pending + i] = Tables[_words[i]];
            _isNoted[_words[i]] = false;
        }

        _epoch = _link.Upload(_pinned, 0, _device.View.AsContiguous(), 2L * _pending);
        int groups = (_pending + _groupSize - 1) / _groupSize;
        _scatter(_link.Stream, new KernelConfig(groups, _groupSize), arena, _device.View.AsContiguous(), _pending);
        _pending = 0;
    }

    public void Dispose()
    {
        if (Tables != null)
        {
            NativeMemory.Free(Tables);
            Tables = null;
            _observer?.Invoke(AllocationKind.Bookkeeping, -(long)_tableWords * sizeof(int));
            _pinned.Dispose();
            _link.Release(AllocationKind.Scratch, _device);
        }
    }
}
