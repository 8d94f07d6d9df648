namespace KvCacheGpu;

/// <summary>A tier that machines share.</summary>
public sealed record KvDistributedOptions
{
    /// <summary>Whether there is one (<c>enable_distributed</c>). The default value is false.</summary>
    public bool EnableDistributed { get; set; }

    /// <summary>What carries it (<c>distributed_backend</c>). The default value is <see cref="KvDistributedBackend.Nccl"/>, which is refused once the tier is on.</summary>
    public KvDistributedBackend DistributedBackend { get; set; } = KvDistributedBackend.Nccl;
}

/// <summary>What could carry a shared tier; only <see cref="Redis"/> can.</summary>
public enum KvDistributedBackend
{
    /// <summary>NVIDIA's collectives: refused, they move tensors between ranks of one job and keep nothing.</summary>
    Nccl,

    /// <summary>Gloo's collectives: refused for the same reason.</summary>
    Gloo,

    /// <summary>MPI: refused for the same reason.</summary>
    Mpi,

    /// <summary>Redis, or what speaks its protocol.</summary>
    Redis,
}
