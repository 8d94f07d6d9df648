using StackExchange.Redis;

namespace KvCacheGpu;

/// <summary>A run of blocks that are read or written.</summary>
internal interface IBlockRun
{
    /// <summary>Blocks that were read or written so far.</summary>
    int Done { get; }

    /// <summary>Values that were no blocks.</summary>
    IReadOnlyList<Exception> Damage { get; }

    /// <summary>Reads or writes them. It may throw what it likes; what is <see cref="Done"/> by then stays done.</summary>
    Task RunAsync(IDatabase database, CallLimit limit);
}
