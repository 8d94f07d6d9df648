using System.Numerics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What the keys may be. Defaults have no issue.</content>
public sealed partial class KvCacheConfig
{
    private const int SmallestMemoryMb = 100;
    private const int MostPrefetched = 64;
    private const int MostThreads = 64;
    private const int FewTokens = 128;
    private const int ManyTokens = 65_536;
    private const string NotADatabase = "redis: collectives move tensors between the ranks of one job and keep nothing to share";

    private static readonly string[] MethodsOfOld = ["svd", "lowrank", "sparse"];

    /// <summary>Checks every key, without a device. Never throws.</summary>
    /// <param name="geometry">The model's shape, or null for that of <see cref="Model"/>.</param>
    public KvConfigurationReport Validate(KvGeometry? geometry = null)
    {
        KvConfigurationIssue[] issues = [.. Issues(geometry is null)];
        if (issues.Length > 0)
        {
            return new KvConfigurationReport(issues, []);
        }

        try
        {
            KvGeometry shape = geometry ?? Geometry();
            KvCacheOptions options = KeyMapping.OptionsOf(this, shape);
            _ = KvCache.LayoutsFor(shape, options);
            return new KvConfigurationReport([], [.. Warnings(geometry, options)]);
        }
        catch (KvConfigurationException e)
        {
            return new KvConfigurationReport([new KvConfigurationIssue(e.Setting, e.Expected, e.Actual)], []);
        }
    }

    private IEnumerable<KvConfigurationIssue> Issues(bool ownShape)
    {
        (string Key, bool Holds, string Expected, object? Actual)[] checks =
        [
            ("num_heads", !ownShape || Model.NumHeads >= 1, "at least 1", Model.NumHeads),
            ("head_dim", !ownShape || Model.HeadDim is >= KvGeometry.MinWidth and <= KvGeometry.MaxWidth, $"{KvGeometry.MinWidth}..{KvGeometry.MaxWidth}", Model.HeadDim),
            ("block_size", !ownShape || (Model.BlockSize is >= 16 and <= 256 && BitOperations.IsPow2(Model.BlockSize)), "a power of two of 16..256", Model.BlockSize),
            ("max_tokens", MaxTokens >= 1, "at least 1", MaxTokens),
            ("cache_strategy", Enum.IsDefined(CacheStrategy), Names<KvCacheStrategy>(), CacheStrategy),
            ("cache_mode", Enum.IsDefined(CacheMode), Names<KvCacheMode>(), CacheMode),
            ("cache_mode", CacheMode != KvCacheMode.Training, "another mode: a KV cache keeps no gradients", "training"),
            ("compression_ratio", Compression.CompressionRatio is > 0 and <= 1, "above 0, at most 1", Compression.CompressionRatio),
            ("compression_method", IsMethod(Compression.CompressionMethod), "auto, svd, lowrank, sparse or a page format's name", $"'{Compression.CompressionMethod}'"),
            ("quantization_bits", Compression.QuantizationBits is 2 or 3 or 4 or 8 or 16, "2, 3, 4, 8 or 16", Compression.QuantizationBits),
            ("dtype", Enum.IsDefined(Compression.Dtype), Names<KvDtype>(), Compression.Dtype),
            ("max_memory_mb", Memory.MaxMemoryMb is null or >= SmallestMemoryMb, $"at least {SmallestMemoryMb}", Memory.MaxMemoryMb),
            ("gc_threshold", Memory.GcThreshold is > 0 and <= 1, "above 0, at most 1", Memory.GcThreshold),
            ("persistence_path", !Persistence.EnablePersistence || !string.IsNullOrWhiteSpace(Persistence.PersistencePath), "a directory, with enable_persistence", "none"),
            ("prefetch_size", Prefetch.PrefetchSize is >= 1 and <= MostPrefetched, $"1..{MostPrefetched}", Prefetch.PrefetchSize),
            ("distributed_backend", Enum.IsDefined(Distributed.DistributedBackend), Names<KvDistributedBackend>(), Distributed.DistributedBackend),
            ("distributed_backend", !Distributed.EnableDistributed || Distributed.DistributedBackend == KvDistributedBackend.Redis, NotADatabase, Lower(Distributed.DistributedBackend)),
            ("tenant_max_tokens", Tenancy.TenantMaxTokens is null or >= 1, "at least 1", Tenancy.TenantMaxTokens),
            ("async_threads", Execution.AsyncThreads is >= 1 and <= MostThreads, $"1..{MostThreads}", Execution.AsyncThreads),
            ("warmup_samples", Execution.WarmupSamples >= 1, "at least 1", Execution.WarmupSamples),
        ];
        return checks.Where(check => !check.Holds).Select(check => new KvConfigurationIssue(check.Key, check.Expected, $"{check.Actual}"));
    }

    private IEnumerable<KvConfigurationWarning> Warnings(KvGeometry? geometry, KvCacheOptions options)
    {
        bool evicts = CacheStrategy is KvCacheStrategy.Adaptive or KvCacheStrategy.Lru or KvCacheStrategy.Lfu;
        bool quantizes = Compression.UseQuantization || CacheStrategy == KvCacheStrategy.Quantized;
        bool compresses = Compression.UseCompression || CacheStrategy == KvCacheStrategy.Compressed;
        (string Key, bool Applies, string Text)[] all =
        [
            ("num_heads", geometry is not null && Model != new KvModelOptions(), "inactive, as head_dim and block_size: the engine is made with a geometry"),
            ("max_tokens", MaxTokens < FewTokens, $"{MaxTokens} is below {FewTokens}: little more than sinks and window fit"),
            ("max_tokens", MaxTokens > ManyTokens && options is { MemoryBudgetBytes: null, MemoryBudgetPercent: null }, $"{MaxTokens} is above {ManyTokens} without max_memory_mb: all of it is reserved"),
            ("compression_ratio", compresses && Compression.CompressionRatio < 0.1, "below 0.1 answers get worse"),
            ("compression_ratio", compresses && Compression.CompressionRatio is > 0.9 and < 1, "above 0.9 little is saved"),
            ("compression_method", MethodsOfOld.Contains(Compression.CompressionMethod, StringComparer.OrdinalIgnoreCase), $"'{Compression.CompressionMethod}' is of older versions: taken as auto"),
            ("quantization_bits", !quantizes && Compression.QuantizationBits != new KvCompressionOptions().QuantizationBits, "inactive without use_quantization"),
            ("cache_mode", CacheMode == KvCacheMode.Streaming && !evicts, $"streaming keeps no window under {Lower(CacheStrategy)}, which drops nothing"),
            ("cache_strategy", CacheMode == KvCacheMode.Streaming && evicts, "inactive: cache_mode streaming keeps sinks and a window"),
            ("pin_memory", Memory.PinMemory, "inactive: copies are not staged in page-locked memory yet"),
            ("non_blocking", Memory.NonBlocking, "inactive: copies from the host wait for their end"),
            ("enable_prefetch", Prefetch.EnablePrefetch, "inactive, as prefetch_size: all pages lie on the device, there is nothing to fetch"),
            ("enable_distributed", Distributed.EnableDistributed, "inactive: this build has no shared tier; redis is not asked"),
        ];
        return all.Where(warning => warning.Applies).Select(warning => new KvConfigurationWarning(warning.Key, warning.Text))
            .Concat(KeyMapping.WarningsOf(this, geometry ?? Geometry(), options));
    }

    private static bool IsMethod(string? method) =>
        string.Equals(method, "auto", StringComparison.OrdinalIgnoreCase)
        || MethodsOfOld.Contains(method, StringComparer.OrdinalIgnoreCase)
        || PageFormats.TryParse(method, out _);

    private static string Names<T>()
        where T : struct, Enum => string.Join(", ", Enum.GetValues<T>().Select(Lower));

    private static string Lower<T>(T value)
        where T : struct, Enum => $"{value}".ToLowerInvariant();

    /// <summary>The shape of <see cref="Model"/>: one layer, every head its own query head.</summary>
    internal KvGeometry Geometry() => new(1, Model.NumHeads, Model.NumHeads, Model.HeadDim, pageTokens: Model.BlockSize);
}
