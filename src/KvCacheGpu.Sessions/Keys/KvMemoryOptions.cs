namespace KvCacheGpu;

/// <summary>How many bytes of the device may be used, and when room is made.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvMemoryOptions
{
    /// <summary>MiB that everything may take together, at least 100 (<c>max_memory_mb</c>). The default value is null: as many as <see cref="KvCacheConfig.MaxTokens"/> need.</summary>
    public int? MaxMemoryMb { get; set; }

    /// <summary>True if room is made ahead, from <see cref="GcThreshold"/> on; false if only when a step lacks it (<c>enable_gc</c>). The default value is true.</summary>
    public bool EnableGc { get; set; } = true;

    /// <summary>Part of the budget above which pages shrink or are evicted, above 0 and at most 1 (<c>gc_threshold</c>). The default value is 0.8.</summary>
    public double GcThreshold { get; set; } = 0.8;

    /// <summary>True if staging memory is page-locked (<c>pin_memory</c>); inactive in this build. The default value is true.</summary>
    public bool PinMemory { get; set; } = true;

    /// <summary>True if copies to the device are asynchronous (<c>non_blocking</c>); inactive in this build. The default value is true.</summary>
    public bool NonBlocking { get; set; } = true;

    /// <summary>True if <see cref="KvEngineStats.Memory"/> tells bytes and pages (<c>monitor_memory</c>). The default value is true.</summary>
    public bool MonitorMemory { get; set; } = true;
}
