namespace KvCacheGpu;

/// <summary>What became of blocks.</summary>
public enum PrefixEventKind
{
    /// <summary>Blocks can be hit from now on.</summary>
    Stored,

    /// <summary>A block can no longer be hit.</summary>
    Removed,

    /// <summary>No block can be hit any longer.</summary>
    AllCleared,
}

/// <summary>A change in which prefixes can be hit, as a router that sends requests to where their prefix is wants to know it.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Hashes">The blocks, one after the other in the sequence; of none for AllCleared.</param>
/// <param name="Parent">The hash before the first of them; null for Removed and AllCleared.</param>
/// <param name="TokenIds">The blocks' token ids where they were stored; else none.</param>
public sealed record PrefixEvent(
    PrefixEventKind Kind, ReadOnlyMemory<BlockHash> Hashes, BlockHash Parent, ReadOnlyMemory<int> TokenIds);
