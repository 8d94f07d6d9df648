using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The open leaves of one sequence's table, from the first on, and where the host has them.</summary>
internal sealed unsafe class TableLeaves(KernelTier tier, int sequence, MemoryLedger ledger) : IDisposable
{
    private readonly NativeInts _pointers = new(0, ledger);

    /// <summary>Bytes of bookkeeping for each leaf that there is room for.</summary>
    public static int BytesOfOne => sizeof(int*);

    /// <summary>Leaves that are open.</summary>
    public int Count { get; private set; }

    /// <summary>The slots and tags of an open leaf (<see cref="TableMap"/>).</summary>
    public int* this[int leaf] => ((int**)_pointers.Pointer)[leaf];

    /// <summary>Makes room to note so many leaves, at least those that are open.</summary>
    public void Resize(int leaves) => _pointers.Resize((long)leaves * BytesOfOne / sizeof(int));

    /// <summary>Opens the next leaf in a slot.</summary>
    public void Open(int slot)
    {
        ((int**)_pointers.Pointer)[Count] = tier.OpenLeaf(sequence, Count, slot);
        Count++;
    }

    /// <summary>Closes all leaves but the first ones.</summary>
    /// <param name="leaves">Leaves to keep.</param>
    /// <param name="pool">Takes their slots back; null where the caller does that.</param>
    public void CloseBeyond(int leaves, PagePool? pool)
    {
        while (Count > leaves)
        {
            int slot = tier.Tables[tier.Map.DirectoryWord(sequence, Count - 1)];
            tier.CloseLeaf(sequence, --Count);
            pool?.Release(slot);
        }
    }

    public void Dispose() => _pointers.Dispose();
}
