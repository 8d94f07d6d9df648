namespace KvCacheGpu;

/// <summary>What happened to blocks.</summary>
public enum PrefixEventKind
{
    /// <summary>Blocks can be hit from now on.</summary>
    Stored,

    /// <summary>A block can no longer be hit.</summary>
    Removed,

    /// <summary>No block can be hit any longer.</summary>
    AllCleared,
}

/// <summary>A change in the set of prefixes that can be hit, for a router that sends each request to the cache that has its prefix.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Kind">What happened.</param>
/// <param name="Hashes">The hashes of the blocks, which follow each other in the sequence; empty for AllCleared.</param>
/// <param name="Parent">The hash before the first of them; null for Removed and AllCleared.</param>
/// <param name="TokenIds">The blocks' token ids for Stored; else empty.</param>
public sealed record PrefixEvent(
    PrefixEventKind Kind, ReadOnlyMemory<BlockHash> Hashes, BlockHash Parent, ReadOnlyMemory<int> TokenIds);
