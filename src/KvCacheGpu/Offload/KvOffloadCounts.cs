namespace KvCacheGpu;

/// <summary>Pages in host memory, and what has become of them since the cache was made (<see cref="KvCacheOffload.GetOffloadCounts"/>).</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public readonly record struct KvOffloadCounts
{
    /// <summary>Pages that lie in host memory now; those that forks share count once.</summary>
    public long Pages { get; init; }

    /// <summary>Bytes of host memory that are taken for them, in chunks of many pages: empty places in a chunk count too.</summary>
    public long Bytes { get; init; }

    /// <summary>Pages that left the device for host memory.</summary>
    public long Offloaded { get; init; }

    /// <summary>Pages that a policy let go and that are lost: the budget was full, or they were never sealed.</summary>
    public long Dropped { get; init; }

    /// <summary>Pages that an attention copied to the device.</summary>
    public long Fetched { get; init; }

    /// <summary>Pages that an attention found on the device, because an earlier one, or a prefetch, had copied them.</summary>
    public long Staged { get; init; }

    /// <summary>Pages that were copied to the device before an attention asked for them (<see cref="KvCacheOptions.EnablePrefetch"/>).</summary>
    public long Prefetched { get; init; }

    /// <summary>Those of them that an attention then asked for.</summary>
    public long PrefetchedUsed { get; init; }

    /// <summary>Those that gave their places up before any attention asked.</summary>
    public long PrefetchedWasted { get; init; }

    /// <summary>Attentions that began before all had come that was being copied for them.</summary>
    public long Late { get; init; }

    /// <summary>Pages in host memory that attentions did not read. 0: every attention read all pages that were not dropped.</summary>
    public long LeftOut { get; init; }
}
