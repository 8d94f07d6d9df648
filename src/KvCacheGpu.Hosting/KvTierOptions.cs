namespace KvCacheGpu.Hosting;

/// <summary>A lower tier that a host opens for a cache: in host memory, or in a folder.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Bytes">Bytes of blocks that it may hold, at least 1.</param>
/// <param name="Directory">The folder of a tier on disk. The default value is null: the tier lies in host memory.</param>
public sealed record KvTierOptions(long Bytes, string? Directory = null)
{
    /// <summary>Opens it.</summary>
    internal KvTier Open() => Directory is null ? new KvHostTier(Bytes) : new KvDiskTier(Directory, Bytes);
}
