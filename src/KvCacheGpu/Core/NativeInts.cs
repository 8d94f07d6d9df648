using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Zeroed native integers of a fixed count, told to the ledger as bookkeeping.</summary>
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

    public long Count { get; }

    public int* Pointer => _pointer;

    public Span<int> Span => new(_pointer, (int)Count);

    private long Bytes => Count * sizeof(int);

    public void Dispose()
    {
        if (_pointer != null)
        {
            int* freed = _pointer;
            _pointer = null;
            if (Keep is { } keep)
            {
                keep((nint)freed, Bytes);
            }
            else
            {
                NativeMemory.Free(freed);
            }

            _ledger.Add(AllocationKind.Bookkeeping, -Bytes);
            GC.SuppressFinalize(this);
        }
    }
}
