namespace KvCacheGpu;

/// <summary>What was asked of a tier so far. Thread safety: it never changes.</summary>
/// <param name="Read">Blocks that were read.</param>
/// <param name="Missed">Blocks that were asked for and not read: they are not there, or follow one that is not.</param>
/// <param name="Written">Blocks that it took.</param>
/// <param name="BytesRead">Bytes of the blocks that were read.</param>
/// <param name="BytesWritten">Bytes of the blocks that it took.</param>
/// <param name="Errors">How often something went wrong, each of which was a miss or left blocks out.</param>
/// <param name="LastError">What went wrong last, or null.</param>
public readonly record struct KvTierCounts(long Read, long Missed, long Written, long BytesRead, long BytesWritten, long Errors, string? LastError);
