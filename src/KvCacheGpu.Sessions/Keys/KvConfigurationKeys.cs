using static KvCacheGpu.KeyValue;

namespace KvCacheGpu;

/// <summary>
/// The table of keys. Everything that reads, checks, writes or documents keys goes by it. To add a key, add its property with its default to
/// <see cref="KvCacheConfig"/> or one of its groups, and a row here.
/// </summary>
public static class KvConfigurationKeys
{
    /// <summary>The group whose keys have no effect on an engine that is made with a geometry.</summary>
    internal const string Model = "model";

    private const string Host = "host", Size = "size", Strategy = "strategy", Compression = "compression", Memory = "memory";
    private const string Persistence = "persistence", Prefetch = "prefetch", Distributed = "shared tier", Tenancy = "tenants", Execution = "execution";
    private const string Formats = "`KeyFormat`, `ValueFormat`";
    private const int FewTokens = 128;
    private const int ManyTokens = 65_536;

    private static readonly string[] OldMethods = ["svd", "lowrank", "sparse"];
    private static readonly string[] Methods = ["auto", .. Enum.GetValues<PageFormat>().Select(f => f.Name()), .. OldMethods];

    /// <summary>All keys, in the order that files list them in. A row: name, group, value and domain, what it sets, meaning; then its rules.</summary>
    public static IReadOnlyList<KvConfigurationKey> All { get; } =
    [
        new("enabled", Host, Switch(c => c.Enabled, (c, v) => c.Enabled = v), "the host",
            "false: a host makes plain caches instead, which have full precision and neither evict nor save")
        {
            Warns = [x => x.Config.Enabled ? null : "inactive: it is for hosts to ask; an engine that is made all the same goes by the other keys"],
        },
        new("num_heads", Model, Whole(1, int.MaxValue, c => c.Model.NumHeads, (c, v) => c.Model.NumHeads = v), "the engine's shape",
            "KV heads of the one layer that an engine has if code gives no geometry")
        {
            Warns = [x => x.IsGiven && x.Config.Model != new KvModelOptions() ? "inactive, as head_dim and block_size: the engine is made with a geometry" : null],
        },
        new("head_dim", Model, Whole(KvGeometry.MinWidth, KvGeometry.MaxWidth, c => c.Model.HeadDim, (c, v) => c.Model.HeadDim = v), "the engine's shape",
            "elements of one head's key and value"),
        new("max_tokens", Size, Whole(1, int.MaxValue, c => c.MaxTokens, (c, v) => c.MaxTokens = v), "`MaxTokens`", "capacity in tokens, over all sequences")
        {
            Warns =
            [
                x => x.Config.MaxTokens < FewTokens ? $"{x.Config.MaxTokens} is below {FewTokens}: little more than sinks and window fit" : null,
                x => x.Config.MaxTokens > ManyTokens && x.Options is { MemoryBudgetBytes: null, MemoryBudgetPercent: null }
                    ? $"{x.Config.MaxTokens} is above {ManyTokens} without max_memory_mb: all of it is reserved"
                    : null,
            ],
        },
        new("block_size", Model, OneOf(["16", "32", "64", "128", "256"], c => c.Model.BlockSize, (c, v) => c.Model.BlockSize = v), "the engine's shape", "tokens in a page"),
        new("cache_strategy", Strategy, OneOf(c => c.CacheStrategy, (c, v) => c.CacheStrategy = v), "`Policy`",
            "what is evicted or shrinks when room runs out: adaptive, lru and lfu evict; paged, compressed and quantized evict nothing")
        {
            Variable = "STRATEGY",
            OtherVariable = "CACHE_STRATEGY",
            Warns = [x => x.Config is { CacheMode: KvCacheMode.Streaming } && x.Config.Evicts ? "inactive: cache_mode streaming keeps sinks and a window" : null],
        },
        new("cache_mode", Strategy, OneOf(c => c.CacheMode, (c, v) => c.CacheMode = v), "`Policy`, `MaxBatchTokens`",
            "the newest tokens that always stay, and the tokens of a step; training is refused")
        {
            Refuses = c => c.CacheMode == KvCacheMode.Training ? "another mode: a KV cache keeps no gradients" : null,
            Warns =
            [
                x => x.Config is { CacheMode: KvCacheMode.Streaming } && !x.Config.Evicts
                    ? $"streaming keeps no window under {x.Config.CacheStrategy.ToString().ToLowerInvariant()}, which evicts nothing"
                    : null,
            ],
        },
        new("use_compression", Compression, Switch(c => c.Compression.UseCompression, (c, v) => c.Compression.UseCompression = v), Formats,
            "true: sealed pages take compression_ratio of their bytes, with loss; false: they keep full precision")
        {
            OtherVariable = "COMPRESSION",
            Warns = [x => x.Config.Compresses ? KeyMapping.LossOf(x) : null],
        },
        new("compression_ratio", Compression, Part(c => c.Compression.CompressionRatio, (c, v) => c.Compression.CompressionRatio = v), Formats,
            "part of the full-precision bytes that is kept: lower is smaller")
        {
            Warns =
            [
                x => x.Config is { Compresses: true, Compression.CompressionRatio: < 0.1 } ? "below 0.1 answers get worse" : null,
                x => x.Config is { Compresses: true, Compression.CompressionRatio: > 0.9 and < 1 } ? "above 0.9 little is saved" : null,
                x => x.Config.Compresses && KeyMapping.KeptOf(x) is var kept && kept > x.Config.Compression.CompressionRatio
                    ? FormattableString.Invariant($"not reached: pages in {KeyMapping.FormatsOf(x)} keep {kept:0.00} of {x.Config.Compression.CompressionRatio}")
                    : null,
            ],
        },
        new("compression_method", Compression,
            new(KeyDomain.OneOf(isText: true, Methods), c => c.Compression.CompressionMethod, (c, v) => c.Compression.CompressionMethod = v!), Formats,
            "how the ratio is reached: auto takes the most precise formats that reach it, a format's name takes that one; svd, lowrank and sparse are taken as auto")
        {
            Warns =
            [
                x => OldMethods.Contains(x.Config.Compression.CompressionMethod, StringComparer.OrdinalIgnoreCase)
                    ? $"'{x.Config.Compression.CompressionMethod}' is of older versions: taken as auto"
                    : null,
            ],
        },
        new("use_quantization", Compression, Switch(c => c.Compression.UseQuantization, (c, v) => c.Compression.UseQuantization = v), Formats,
            "true: sealed pages have quantization_bits, in place of compression")
        {
            Warns = [x => x.Config.Quantizes ? KeyMapping.LossOf(x) : null],
        },
        new("quantization_bits", Compression, OneOf(["2", "3", "4", "8", "16"], c => c.Compression.QuantizationBits, (c, v) => c.Compression.QuantizationBits = v), Formats,
            "bits of an element: 8 is i8/i8, 4 t4/v4, 3 t3/v3, 2 t2/v2; 16 is full precision")
        {
            Warns =
            [
                x => !x.Config.Quantizes && x.Config.Compression.QuantizationBits != new KvCompressionOptions().QuantizationBits ? "inactive without use_quantization" : null,
                x => x.Config is { Quantizes: true, Compression.QuantizationBits: < 16 } && x.Options.KeyFormat.IsFullPrecision()
                    ? $"inactive: no such format takes heads of width {x.Geometry.KeyWidth}"
                    : null,
            ],
        },
        new("max_memory_mb", Memory, WholeOrNone(100, c => c.Memory.MaxMemoryMb, (c, v) => c.Memory.MaxMemoryMb = v), "`MemoryBudgetBytes`",
            "MiB of the device that everything may take together; nothing: as many as max_tokens need"),
        new("enable_gc", Memory, Switch(c => c.Memory.EnableGc, (c, v) => c.Memory.EnableGc = v), "`Watermark`",
            "true: room is made ahead, from gc_threshold on; false: only when a step lacks it") { IsLive = true },
        new("gc_threshold", Memory, Part(c => c.Memory.GcThreshold, (c, v) => c.Memory.GcThreshold = v), "`Watermark`",
            "part of the budget above which pages shrink or are evicted") { IsLive = true },
        new("pin_memory", Memory, Switch(c => c.Memory.PinMemory, (c, v) => c.Memory.PinMemory = v), "inactive", "staging memory is page-locked")
        {
            Warns = [x => x.Config.Memory.PinMemory ? "inactive: copies are not staged in page-locked memory yet" : null],
        },
        new("non_blocking", Memory, Switch(c => c.Memory.NonBlocking, (c, v) => c.Memory.NonBlocking = v), "inactive", "copies to the device are asynchronous")
        {
            Warns = [x => x.Config.Memory.NonBlocking ? "inactive: copies from the host wait for their end" : null],
        },
        new("dtype", Compression, OneOf(c => c.Compression.Dtype, (c, v) => c.Compression.Dtype = v), $"`FullPrecision`, {Formats}", "what full precision is"),
        new("adaptive_compression", Compression, Switch(c => c.Compression.AdaptiveCompression, (c, v) => c.Compression.AdaptiveCompression = v), "`DemotionFormats`",
            "true: the adaptive strategy may shrink compressed pages further when bytes run out"),
        new("adaptive_quantization", Compression, Switch(c => c.Compression.AdaptiveQuantization, (c, v) => c.Compression.AdaptiveQuantization = v), "`DemotionFormats`",
            "true: the adaptive strategy may shrink quantized pages further when bytes run out"),
        new("monitor_memory", Memory, Switch(c => c.Memory.MonitorMemory, (c, v) => c.Memory.MonitorMemory = v), "statistics", "true: they tell bytes and pages") { IsLive = true },
        new("enable_persistence", Persistence, Switch(c => c.Persistence.EnablePersistence, (c, v) => c.Persistence.EnablePersistence = v), "saving and loading",
            "true: sessions can be saved and loaded, which needs persistence_path"),
        new("persistence_path", Persistence, new(KeyDomain.Path, c => c.Persistence.PersistencePath, (c, v) => c.Persistence.PersistencePath = v), "saving and loading",
            "directory of the snapshots")
        {
            Refuses = c => c.Persistence is { EnablePersistence: true } && string.IsNullOrWhiteSpace(c.Persistence.PersistencePath) ? "a directory, with enable_persistence" : null,
        },
        new("enable_prefetch", Prefetch, Switch(c => c.Prefetch.EnablePrefetch, (c, v) => c.Prefetch.EnablePrefetch = v), "`EnablePrefetch`",
            "true: several blocks of a prefix are fetched from a lower tier at once, and the next ones meanwhile")
        {
            Warns = [x => x.Config.Prefetch.EnablePrefetch && x.Options.Tiers is { Count: 0 } ? "inactive, as prefetch_size: the cache has no tier below it to fetch from (KvCacheOptions.Tiers)" : null],
        },
        new("prefetch_size", Prefetch, Whole(1, 64, c => c.Prefetch.PrefetchSize, (c, v) => c.Prefetch.PrefetchSize = v), "`PrefetchSize`", "blocks fetched at once"),
        new("enable_profiling", Execution, Switch(c => c.Execution.EnableProfiling, (c, v) => c.Execution.EnableProfiling = v), "statistics", "true: calls are timed") { IsLive = true },
        new("enable_distributed", Distributed, Switch(c => c.Distributed.EnableDistributed, (c, v) => c.Distributed.EnableDistributed = v), "`Tiers`, by the host",
            "true: machines share a tier; the tool opens one, other hosts add a KvRedisTier")
        {
            Warns =
            [
                x => x.Config.Distributed.EnableDistributed && x.Options.Tiers?.Any(tier => tier.Name == "redis") != true
                    ? "inactive: no redis tier among KvCacheOptions.Tiers; add a KvRedisTier in ConfigureOptions"
                    : null,
            ],
        },
        new("distributed_backend", Distributed, OneOf(c => c.Distributed.DistributedBackend, (c, v) => c.Distributed.DistributedBackend = v), "`Tiers`, by the host",
            "what carries that tier; nccl, gloo and mpi are refused once it is on")
        {
            Refuses = c => c.Distributed is { EnableDistributed: true, DistributedBackend: not KvDistributedBackend.Redis }
                ? "redis: collectives move tensors between the ranks of one job and keep nothing to share"
                : null,
        },
        new("multi_tenant", Tenancy, Switch(c => c.Tenancy.MultiTenant, (c, v) => c.Tenancy.MultiTenant = v), "sessions", "true: every session belongs to a tenant, who must be named"),
        new("tenant_isolation", Tenancy, Switch(c => c.Tenancy.TenantIsolation, (c, v) => c.Tenancy.TenantIsolation = v), "sessions", "true: the tenant is part of every session's key"),
        new("tenant_max_tokens", Tenancy, WholeOrNone(1, c => c.Tenancy.TenantMaxTokens, (c, v) => c.Tenancy.TenantMaxTokens = v), "sessions",
            "tokens that the sessions of one tenant may hold together; nothing: no quota") { IsLive = true },
        new("enable_async", Execution, Switch(c => c.Execution.EnableAsync, (c, v) => c.Execution.EnableAsync = v), "saving and loading",
            "true: transfers to and from disk use async_threads workers; false: one"),
        new("async_threads", Execution, Whole(1, 64, c => c.Execution.AsyncThreads, (c, v) => c.Execution.AsyncThreads = v), "saving and loading", "workers of transfers"),
        new("enable_warmup", Execution, Switch(c => c.Execution.EnableWarmup, (c, v) => c.Execution.EnableWarmup = v), "the engine's start",
            "true: kernels are compiled and pages touched when the engine is made"),
        new("warmup_samples", Execution, Whole(1, int.MaxValue, c => c.Execution.WarmupSamples, (c, v) => c.Execution.WarmupSamples = v), "the engine's start",
            "tokens that the warm-up appends and attends to"),
    ];

    private static readonly Dictionary<string, KvConfigurationKey> _byName = All.ToDictionary(key => key.Name, StringComparer.OrdinalIgnoreCase);

    private static readonly Dictionary<string, KvConfigurationKey> _byVariable =
        All.SelectMany(key => new[] { key.Variable, key.OtherVariable }.OfType<string>().Select(variable => (variable, key))).ToDictionary(StringComparer.Ordinal);

    /// <summary>Finds a key by its name, in upper or lower case; null if there is none.</summary>
    public static KvConfigurationKey? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Finds a key by one of its environment variables; null if there is none.</summary>
    public static KvConfigurationKey? FindVariable(string variable) => _byVariable.GetValueOrDefault(variable);
}
