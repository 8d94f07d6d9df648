using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Native integers, zeroed at first, told to the ledger as bookkeeping.</summary>
internal sealed unsafe class NativeInts : IDisposable
{
    private readonly MemoryLedger _ledger;
    private int* _pointer;

    public NativeInts(long count, MemoryLedger ledger)
    {
        (Count, _ledger) = (count, ledger);
        _pointer = (int*)NativeMemory.AllocZeroed((nuint)Math.Max(count, 1), sizeof(int));
        ledger.Add(AllocationKind.Bookkeeping, Bytes);
    }

    ~NativeInts() => NativeMemory.Free(_pointer);

    /// <summary>Where set, by tests, it takes memory of so many bytes in the place of freeing it, so that a late use of it shows.</summary>
    internal static Action<nint, long>? Keep { get; set; }

    public long Count { get; private set; }

    public int* Pointer => _pointer;

    public Span<int> Span => new(_pointer, (int)Count);

    private long Bytes => Count * sizeof(int);

    /// <summary>Changes the count; integers beyond the count before are 0. Pointers and spans that were taken before are not valid any longer.</summary>
    public void Resize(long count)
    {
        if (count == Count)
        {
            return;
        }

        int* moved = (int*)NativeMemory.AllocZeroed((nuint)Math.Max(count, 1), sizeof(int));
        NativeMemory.Copy(_pointer, moved, (nuint)(Math.Min(count, Count) * sizeof(int)));
        Free(_pointer);
        _ledger.Add(AllocationKind.Bookkeeping, (count - Count) * sizeof(int));
        _pointer = moved;
        Count = count;
    }

    public void Dispose()
    {
        if (_pointer != null)
        {
            int* freed = _pointer;
            _pointer = null;
            Free(freed);
            _ledger.Add(AllocationKind.Bookkeeping, -Bytes);
            GC.SuppressFinalize(this);
        }
    }

    private void Free(int* freed)
    {
        if (Keep is { } keep)
        {
            keep((nint)freed, Bytes);
        }
        else
        {
            NativeMemory.Free(freed);
        }
    }
}
