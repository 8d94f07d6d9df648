using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels;

/// <summary>Zeroed native memory, aligned to 64 bytes, whose allocation and release an observer is told of.</summary>
internal sealed unsafe partial class NativeBlock : IDisposable
{
    private const int HugePageBytes = 2 << 20;
    private const int HugePageAdvice = 14; // MADV_HUGEPAGE

    private readonly AllocationObserver? _observer;
    private readonly AllocationKind _kind;
    private void* _allocation;
    private void* _pointer;

    public NativeBlock(long bytes, AllocationKind kind, AllocationObserver? observer)
    {
        // Kernels load whole registers and mask the elements that they do not need: memory past the end must be readable.
        const int ReadableTail = 512;
        (Bytes, _kind, _observer) = (bytes, kind, observer);
        nuint alignment = bytes >= HugePageBytes ? HugePageBytes : 64u;
        nuint size = checked((nuint)bytes + ReadableTail);
        _allocation = NativeMemory.AllocZeroed(size + alignment);
        _pointer = (void*)(((nuint)_allocation + alignment - 1) & ~(alignment - 1));
        if (alignment == HugePageBytes && OperatingSystem.IsLinux())
        {
            // Pages lie anywhere in the arena: without huge pages every few of them cost a walk of the address tables. Refusal is no error.
            _ = AdviseMemory(_pointer, size, HugePageAdvice);
        }

        observer?.Invoke(kind, bytes);
    }

    ~NativeBlock() => Release();

    public long Bytes { get; }

    public void* Pointer => _pointer;

    public void Dispose()
    {
        Release();
        GC.SuppressFinalize(this);
    }

    private void Release()
    {
        if (_pointer != null)
        {
            NativeMemory.Free(_allocation);
            _pointer = null;
            _observer?.Invoke(_kind, -Bytes);
        }
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int AdviseMemory(void* start, nuint length, int advice);
}
