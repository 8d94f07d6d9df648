using System.Globalization;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Configuration;

/// <summary>Every key of configuration files. Defaults are those of <see cref="KvCacheConfig"/>.</summary>
public static class KvConfigurationKeys
{
    internal const string Enabled = "enabled";

    private static readonly string[] _methods = ["auto", .. Enum.GetValues<PageFormat>().Select(f => f.Name()), "svd", "lowrank", "sparse"];

    /// <summary>All, in the order that files list them in.</summary>
    public static IReadOnlyList<KvConfigurationKey> All { get; } =
    [
        // Of the host, not of the cache: KvConfiguration.Enabled tells it.
        new(Enabled, KeyDomain.Switch, _ => "true", (_, _) => { }, "whether a host applies this configuration; without, caches are plain: full precision, nothing evicted or saved"),
        Whole("num_heads", 1, int.MaxValue, c => c.Model.NumHeads, (c, v) => c.Model.NumHeads = v, "KV heads of the one layer that an engine has where code gives no geometry"),
        Whole("head_dim", KvGeometry.MinWidth, KvGeometry.MaxWidth, c => c.Model.HeadDim, (c, v) => c.Model.HeadDim = v, "elements of one head's key and value"),
        Whole("max_tokens", 1, int.MaxValue, c => c.MaxTokens, (c, v) => c.MaxTokens = v, "capacity in tokens, over all sequences"),
        Number("block_size", ["16", "32", "64", "128", "256"], c => c.Model.BlockSize, (c, v) => c.Model.BlockSize = v, "tokens in a page"),
        Choice("cache_strategy", c => c.CacheStrategy, (c, v) => c.CacheStrategy = v, "what goes or shrinks where room runs out; paged, compressed and quantized evict nothing"),
        Choice("cache_mode", c => c.CacheMode, (c, v) => c.CacheMode = v, "sets the window that always stays and the tokens of a step; training is refused"),
        Switch("use_compression", c => c.Compression.UseCompression, (c, v) => c.Compression.UseCompression = v, "whether pages are to take compression_ratio of their bytes; lossy"),
        Part("compression_ratio", c => c.Compression.CompressionRatio, (c, v) => c.Compression.CompressionRatio = v, "part of the full-precision bytes that is kept: lower is smaller"),
        new("compression_method", KeyDomain.OneOf(isText: true, _methods), c => c.Compression.CompressionMethod, (c, v) => c.Compression.CompressionMethod = v!, "how the ratio is reached; svd, lowrank and sparse are taken as auto"),
        Switch("use_quantization", c => c.Compression.UseQuantization, (c, v) => c.Compression.UseQuantization = v, "whether sealed pages have quantization_bits"),
        Number("quantization_bits", ["2", "3", "4", "8", "16"], c => c.Compression.QuantizationBits, (c, v) => c.Compression.QuantizationBits = v, "bits of an element; 16 is full precision"),
        new("max_memory_mb", KeyDomain.Whole(100, takesNull: true), c => Text(c.Memory.MaxMemoryMb), (c, v) => c.Memory.MaxMemoryMb = ToInt(v), "MiB of the device that everything may take together; nothing: what max_tokens take"),
        Switch("enable_gc", c => c.Memory.EnableGc, (c, v) => c.Memory.EnableGc = v, "whether room is made ahead, from gc_threshold on", isLive: true),
        Part("gc_threshold", c => c.Memory.GcThreshold, (c, v) => c.Memory.GcThreshold = v, "part of the budget above which pages shrink and go", isLive: true),
        Switch("pin_memory", c => c.Memory.PinMemory, (c, v) => c.Memory.PinMemory = v, "whether staging memory is page-locked"),
        Switch("non_blocking", c => c.Memory.NonBlocking, (c, v) => c.Memory.NonBlocking = v, "whether copies to the device are asynchronous"),
        Choice("dtype", c => c.Compression.Dtype, (c, v) => c.Compression.Dtype = v, "what full precision is"),
        Switch("adaptive_compression", c => c.Compression.AdaptiveCompression, (c, v) => c.Compression.AdaptiveCompression = v, "whether the adaptive strategy shrinks pages only where bytes run out"),
        Switch("adaptive_quantization", c => c.Compression.AdaptiveQuantization, (c, v) => c.Compression.AdaptiveQuantization = v, "whether the adaptive strategy may shrink quantized pages further"),
        Switch("monitor_memory", c => c.Memory.MonitorMemory, (c, v) => c.Memory.MonitorMemory = v, "whether statistics tell bytes and pages", isLive: true),
        Switch("enable_persistence", c => c.Persistence.EnablePersistence, (c, v) => c.Persistence.EnablePersistence = v, "whether sessions can be saved and loaded; needs persistence_path"),
        new("persistence_path", KeyDomain.Path, c => c.Persistence.PersistencePath, (c, v) => c.Persistence.PersistencePath = v, "directory of the snapshots"),
        Switch("enable_prefetch", c => c.Prefetch.EnablePrefetch, (c, v) => c.Prefetch.EnablePrefetch = v, "whether pages are fetched from slower memory before they are asked for"),
        Whole("prefetch_size", 1, 64, c => c.Prefetch.PrefetchSize, (c, v) => c.Prefetch.PrefetchSize = v, "pages fetched ahead"),
        Switch("enable_profiling", c => c.Execution.EnableProfiling, (c, v) => c.Execution.EnableProfiling = v, "whether calls are timed", isLive: true),
        Switch("enable_distributed", c => c.Distributed.EnableDistributed, (c, v) => c.Distributed.EnableDistributed = v, "whether there is a tier that machines share"),
        Choice("distributed_backend", c => c.Distributed.DistributedBackend, (c, v) => c.Distributed.DistributedBackend = v, "what carries that tier; nccl, gloo and mpi are refused once it is on"),
        Switch("multi_tenant", c => c.Tenancy.MultiTenant, (c, v) => c.Tenancy.MultiTenant = v, "whether every session belongs to a tenant"),
        Switch("tenant_isolation", c => c.Tenancy.TenantIsolation, (c, v) => c.Tenancy.TenantIsolation = v, "whether the tenant is part of every session's key"),
        new("tenant_max_tokens", KeyDomain.Whole(1, takesNull: true), c => Text(c.Tenancy.TenantMaxTokens), (c, v) => c.Tenancy.TenantMaxTokens = ToInt(v), "tokens that the sessions of one tenant may hold; nothing: no quota") { IsLive = true },
        Switch("enable_async", c => c.Execution.EnableAsync, (c, v) => c.Execution.EnableAsync = v, "whether transfers to and from disk use async_threads workers"),
        Whole("async_threads", 1, 64, c => c.Execution.AsyncThreads, (c, v) => c.Execution.AsyncThreads = v, "workers of transfers"),
        Switch("enable_warmup", c => c.Execution.EnableWarmup, (c, v) => c.Execution.EnableWarmup = v, "whether kernels are compiled and pages touched at the start"),
        Whole("warmup_samples", 1, int.MaxValue, c => c.Execution.WarmupSamples, (c, v) => c.Execution.WarmupSamples = v, "tokens that the warm-up appends and attends to"),
    ];

    private static readonly Dictionary<string, KvConfigurationKey> _byName = All.ToDictionary(key => key.Name, StringComparer.OrdinalIgnoreCase);

    /// <summary>The key of a name, whatever its case; null where there is none.</summary>
    public static KvConfigurationKey? Find(string name) => _byName.GetValueOrDefault(name);

    private static KvConfigurationKey Switch(string name, Func<KvCacheConfig, bool> get, Action<KvCacheConfig, bool> set, string meaning, bool isLive = false) =>
        new(name, KeyDomain.Switch, c => get(c) ? "true" : "false", (c, v) => set(c, v == "true"), meaning) { IsLive = isLive };

    private static KvConfigurationKey Whole(string name, int least, int most, Func<KvCacheConfig, int> get, Action<KvCacheConfig, int> set, string meaning) =>
        new(name, KeyDomain.Whole(least, most), c => Text(get(c)), (c, v) => set(c, ToInt(v)!.Value), meaning);

    private static KvConfigurationKey Number(string name, string[] values, Func<KvCacheConfig, int> get, Action<KvCacheConfig, int> set, string meaning) =>
        new(name, KeyDomain.OneOf(isText: false, values), c => Text(get(c)), (c, v) => set(c, ToInt(v)!.Value), meaning);

    private static KvConfigurationKey Part(string name, Func<KvCacheConfig, double> get, Action<KvCacheConfig, double> set, string meaning, bool isLive = false) =>
        new(name, KeyDomain.Part, c => get(c).ToString("R", CultureInfo.InvariantCulture), (c, v) => set(c, double.Parse(v!, CultureInfo.InvariantCulture)), meaning) { IsLive = isLive };

    private static KvConfigurationKey Choice<T>(string name, Func<KvCacheConfig, T> get, Action<KvCacheConfig, T> set, string meaning)
        where T : struct, Enum =>
        new(name, KeyDomain.OneOf(isText: true, [.. Enum.GetNames<T>().Select(n => n.ToLowerInvariant())]), c => get(c).ToString().ToLowerInvariant(), (c, v) => set(c, Enum.Parse<T>(v!, ignoreCase: true)), meaning);

    private static string? Text(int? value) => value?.ToString(CultureInfo.InvariantCulture);

    private static int? ToInt(string? text) => text is null ? null : int.Parse(text, CultureInfo.InvariantCulture);
}
