namespace KvCacheGpu;

/// <summary>What <c>UltraAdaptiveKvCacheEngine</c> may take of the device.</summary>
public sealed record KvMemoryOptions
{
    /// <summary>MiB that everything may take together, at least 100 (<c>max_memory_mb</c>). The default value is null: what <see cref="KvCacheConfig.MaxTokens"/> take.</summary>
    public int? MaxMemoryMb { get; set; }

    /// <summary>Whether room is made ahead, from <see cref="GcThreshold"/> on, and not only where a step lacks it (<c>enable_gc</c>). The default value is true.</summary>
    public bool EnableGc { get; set; } = true;

    /// <summary>Part of the budget above which pages shrink and go, above 0 and at most 1 (<c>gc_threshold</c>). The default value is 0.8.</summary>
    public double GcThreshold { get; set; } = 0.8;

    /// <summary>Whether staging memory is page-locked (<c>pin_memory</c>). The default value is true.</summary>
    public bool PinMemory { get; set; } = true;

    /// <summary>Whether copies to the device are asynchronous (<c>non_blocking</c>). The default value is true.</summary>
    public bool NonBlocking { get; set; } = true;

    /// <summary>Whether <c>GetStats</c> tells bytes and pages (<c>monitor_memory</c>). The default value is true.</summary>
    public bool MonitorMemory { get; set; } = true;
}
