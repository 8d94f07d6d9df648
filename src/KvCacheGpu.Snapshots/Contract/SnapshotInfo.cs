namespace KvCacheGpu;

/// <summary>The description of a stored snapshot, without its pages.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record SnapshotInfo
{
    /// <summary>Its name and tenant; null if they could not be read.</summary>
    public SnapshotName? Name { get; init; }

    /// <summary>SHA-256 of name and tenant, in hexadecimal: the beginning of its files' names.</summary>
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

    /// <summary>True if it is encrypted.</summary>
    public bool IsEncrypted { get; init; }

    /// <summary>Says why an earlier generation than the newest was taken, or why nothing could be read; null if all is well.</summary>
    public string? Notice { get; init; }
}

/// <summary>Result of verifying one generation of a snapshot.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Generation">Its number.</param>
/// <param name="IsCurrent">True if it is the generation that loads first.</param>
/// <param name="Error">The error that was found; null if every byte was read and verified.</param>
public sealed record SnapshotVerdict(long Generation, bool IsCurrent, KvCacheException? Error);

/// <summary>Progress of saving or loading.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Bytes">Decoded bytes that are done. Saving counts everything twice: written, then read again and verified.</param>
/// <param name="TotalBytes">Bytes in all.</param>
public readonly record struct SnapshotProgress(long Bytes, long TotalBytes);
