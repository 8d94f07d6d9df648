namespace KvCacheGpu.Hosting;

/// <summary>How the sessions of a cache are kept.</summary>
/// <remarks>Thread safety: it is set up by one thread, and only read once the cache is there.</remarks>
public sealed class KvSessionsOptions
{
    /// <summary>
    /// Folder that sessions are saved in, one snapshot each, and loaded from when they are asked for. The default value is null: sessions end with the process. Each cache needs a folder of its own.
    /// </summary>
    public string? Directory { get; set; }

    /// <summary>
    /// How long nobody uses a session before it leaves the device: for host memory, or, where <see cref="KvCacheOptions.SwapBudgetBytes"/> is used up, for the folder. The default value is five minutes; null: it stays
    /// until others need the room.
    /// </summary>
    public TimeSpan? IdleAfter { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Encrypts what is saved, and the like. The default value is null: the store's own defaults.</summary>
    public SnapshotOptions? Snapshots { get; set; }
}
