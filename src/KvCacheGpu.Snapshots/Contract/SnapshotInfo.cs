namespace KvCacheGpu;

/// <summary>What is known of a stored snapshot without reading its pages.</summary>
public sealed record SnapshotInfo
{
    /// <summary>Its name and tenant; null where nothing of it could be read.</summary>
    public SnapshotName? Name { get; init; }

    /// <summary>SHA-256 of name and tenant, in hexadecimal: what its files' names begin with.</summary>
    public required string FileName { get; init; }

    /// <summary>Its generation: 1 the first time it was saved, and one more each time.</summary>
    public long Generation { get; init; }

    /// <summary>Version of its format.</summary>
    public int Version { get; init; }

    /// <summary>When it was saved.</summary>
    public DateTimeOffset Created { get; init; }

    /// <summary>Sequences.</summary>
    public long Sequences { get; init; }

    /// <summary>Tokens over all sequences.</summary>
    public long Tokens { get; init; }

    /// <summary>Pages, shared ones once.</summary>
    public long Pages { get; init; }

    /// <summary>Bytes of everything, decoded.</summary>
    public long Bytes { get; init; }

    /// <summary>Bytes on the disk.</summary>
    public long StoredBytes { get; init; }

    /// <summary>Whether it is encrypted.</summary>
    public bool IsEncrypted { get; init; }

    /// <summary>Why an earlier generation than the newest was taken, or why nothing could be read; null where all is well.</summary>
    public string? Notice { get; init; }
}

/// <summary>What one generation of a snapshot is worth.</summary>
/// <param name="Generation">Its number.</param>
/// <param name="IsCurrent">Whether it is the one that loads first.</param>
/// <param name="Error">What is wrong with it, or null: every byte was read and verified.</param>
public sealed record SnapshotVerdict(long Generation, bool IsCurrent, KvCacheException? Error);

/// <summary>How far saving or loading is.</summary>
/// <param name="Bytes">Decoded bytes that are done. Saving counts everything twice: written, then read again and verified.</param>
/// <param name="TotalBytes">How many there are.</param>
public readonly record struct SnapshotProgress(long Bytes, long TotalBytes);
