using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Where the statistics of a row's entries lie after pages were dropped: kernels wrote them by the entries of the step, and moving them
/// on the device would cost a transfer per step.
/// </summary>
internal sealed unsafe class PageMassMap : IDisposable
{
    private readonly NativeInts _memory;
    private readonly int _rows;
    private readonly int _capacity;

    public PageMassMap(KernelShape shape, MemoryLedger ledger)
    {
        _rows = shape.Geometry.Layers * shape.Geometry.KvHeads;
        _capacity = shape.TableCapacity;
        _memory = new NativeInts(BookkeepingBytes(shape) / sizeof(int), ledger);
    }

    public static long BookkeepingBytes(KernelShape shape) =>
        (long)shape.Geometry.Layers * shape.Geometry.KvHeads * (1 + (long)shape.TableCapacity) * sizeof(int);

    /// <summary>The entry whose statistics belong to what is now at <paramref name="entry"/>.</summary>
    public int EntryAtAttend(int row, int entry) =>
        _memory.Pointer[row] == 0 ? entry : _memory.Pointer[_rows + ((long)row * _capacity) + entry];

    /// <summary>Says that a row is as it was when it was attended to.</summary>
    public void Reset(int row) => _memory.Pointer[row] = 0;

    /// <summary>Says that the flagged entries leave a row of <paramref name="count"/>.</summary>
    public void Drop(int row, int count, ReadOnlySpan<bool> drops)
    {
        _memory.Pointer[row] = 1;
        int* target = _memory.Pointer + _rows + ((long)row * _capacity);
        for (int entry = 0; entry < count; entry++)
        {
            if (entry >= drops.Length || !drops[entry])
            {
                *target++ = entry;
            }
        }
    }

    public void Dispose() => _memory.Dispose();
}
