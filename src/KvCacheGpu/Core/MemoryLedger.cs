using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Every byte that a cache's memory takes, entered as it is taken and given back: by the tier for the arena and its working memory,
/// by the pool for slots, by everything native for its bookkeeping.
/// </summary>
internal sealed class MemoryLedger(AllocationObserver? observer)
{
    private long _reserved;
    private long _live;
    private long _scratch;

    /// <summary>Bytes of the arena.</summary>
    public long Reserved => Interlocked.Read(ref _reserved);

    /// <summary>Bytes of slots, working memory and bookkeeping.</summary>
    public long Live => Interlocked.Read(ref _live);

    /// <summary>Bytes of working memory, which are part of <see cref="Live"/>.</summary>
    public long Scratch => Interlocked.Read(ref _scratch);

    public void Add(AllocationKind kind, long bytes)
    {
        Interlocked.Add(ref kind == AllocationKind.Arena ? ref _reserved : ref _live, bytes);
        if (kind == AllocationKind.Scratch)
        {
            Interlocked.Add(ref _scratch, bytes);
        }

        observer?.Invoke(kind, bytes);
    }
}
