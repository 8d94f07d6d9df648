namespace KvCacheGpu;

/// <summary>A tier that machines share.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvDistributedOptions
{
    /// <summary>
    /// True if there is one (<c>enable_distributed</c>). The host opens it, a KvRedisTier of KvCacheGpu.Redis among <see cref="KvCacheOptions.Tiers"/>; <c>kvcache run</c> does. The default value is false.
    /// </summary>
    public bool EnableDistributed { get; set; }

    /// <summary>What carries it (<c>distributed_backend</c>). The default value is <see cref="KvDistributedBackend.Nccl"/>, which is refused as soon as the tier is on.</summary>
    public KvDistributedBackend DistributedBackend { get; set; } = KvDistributedBackend.Nccl;
}

/// <summary>Carriers of a shared tier that older versions named; only <see cref="Redis"/> can be one.</summary>
public enum KvDistributedBackend
{
    /// <summary>NVIDIA's collectives: refused, since they move tensors between the ranks of one job and keep nothing.</summary>
    Nccl,

    /// <summary>Gloo's collectives: refused for the same reason.</summary>
    Gloo,

    /// <summary>MPI: refused for the same reason.</summary>
    Mpi,

    /// <summary>Redis, or another server with its protocol.</summary>
    Redis,
}
