using System.Text.RegularExpressions;
using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>Every key changes what the engine does, warns that it is inactive here, or is refused with its reason. A new key without a proof is red.</summary>
public partial class KeyTests
{
    private static readonly Dictionary<string, Action> Proofs = new()
    {
        ["enabled"] = () =>
        {
            Assert.StartsWith("inactive", Warning(Config(c => c.Enabled = false), "enabled"), StringComparison.Ordinal);
            Assert.Empty(Warning(Config(), "enabled"));
        },
        ["num_heads"] = () => ShapeFollows(c => c.Model.NumHeads = 3, g => g.KvHeads, 3),
        ["head_dim"] = () => ShapeFollows(c => c.Model.HeadDim = 32, g => g.KeyWidth, 32),
        ["block_size"] = () => ShapeFollows(c => c.Model.BlockSize = 32, g => g.PageTokens, 32),
        ["max_tokens"] = KeyProofs.MaxTokensBoundsASession,
        ["cache_strategy"] = KeyProofs.StrategiesEvictOrRefuse,
        ["cache_mode"] = KeyProofs.ModesSetStepsAndWindows,
        ["use_compression"] = KeyProofs.CompressionIsLossyAndOffIsExact,
        ["compression_ratio"] = KeyProofs.ALowerRatioTakesFewerBytes,
        ["compression_method"] = () => Sealed(c => { Compress(c); c.Compression.CompressionMethod = "t3"; }, PageFormat.T3, PageFormat.V3),
        ["use_quantization"] = () => Sealed(c => c.Compression.UseQuantization = true, PageFormat.I8, PageFormat.I8),
        ["quantization_bits"] = KeyProofs.BitsAreFormats,
        ["adaptive_compression"] = () => SettingFollows(
            c => { Compress(c); c.Compression.CompressionRatio = 0.6; }, s => s.DemotionFormats.Count, 0, otherwise: 2, c => (c.Compression.UseCompression, c.Compression.CompressionRatio) = (true, 0.6)),
        ["adaptive_quantization"] = () => SettingFollows(
            c => { c.Compression.UseQuantization = true; c.Compression.AdaptiveQuantization = false; }, s => s.DemotionFormats.Count, 0, otherwise: 2, c => c.Compression.UseQuantization = true),
        ["dtype"] = () => SettingFollows(c => c.Compression.Dtype = KvDtype.Float32, s => s.FullPrecision, PageFormat.F32, PageFormat.F16),
        ["max_memory_mb"] = () => SettingFollows(c => c.Memory.MaxMemoryMb = 100, s => s.MemoryBudgetBytes, 100L << 20, null),
        ["enable_gc"] = () => SettingFollows(c => c.Memory.EnableGc = false, s => s.Watermark, 1, 0.8),
        ["gc_threshold"] = () => SettingFollows(c => c.Memory.GcThreshold = 0.5, s => s.Watermark, 0.5, 0.8),
        ["pin_memory"] = () => WarnsWhenOn("pin_memory", (c, on) => c.Memory.PinMemory = on),
        ["non_blocking"] = () => WarnsWhenOn("non_blocking", (c, on) => c.Memory.NonBlocking = on),
        ["monitor_memory"] = KeyProofs.MonitoringTellsMemory,
        ["enable_persistence"] = KeyProofs.PersistenceOffRefusesToSave,
        ["persistence_path"] = KeyProofs.ThePathIsWhereSessionsAre,
        ["enable_prefetch"] = () =>
        {
            WarnsWhenOn("enable_prefetch", (c, on) => c.Prefetch.EnablePrefetch = on);
            SettingFollows(c => c.Prefetch.EnablePrefetch = false, s => s.EnablePrefetch, false, otherwise: true);
        },
        ["prefetch_size"] = () =>
        {
            Assert.Contains("prefetch_size", Warning(Config(), "enable_prefetch"), StringComparison.Ordinal);
            Refused("prefetch_size", c => c.Prefetch.PrefetchSize = 65);
            SettingFollows(c => c.Prefetch.PrefetchSize = 3, s => s.PrefetchSize, 3, otherwise: 8);
        },
        ["enable_distributed"] = () => WarnsWhenOn("enable_distributed", (c, on) => (c.Distributed.DistributedBackend, c.Distributed.EnableDistributed) = (KvDistributedBackend.Redis, on)),
        ["distributed_backend"] = KeyProofs.CollectivesAreRefused,
        ["multi_tenant"] = KeyProofs.TenantsMustBeNamed,
        ["tenant_isolation"] = KeyProofs.IsolationIsInEveryKey,
        ["tenant_max_tokens"] = KeyProofs.QuotasBind,
        ["enable_async"] = () => Assert.Equal((2, 1), (Workers(c => { }), Workers(c => c.Execution.EnableAsync = false))),
        ["async_threads"] = () => Assert.Equal(5, Workers(c => c.Execution.AsyncThreads = 5)),
        ["enable_warmup"] = () => Assert.Equal((0, 100), (WarmedUp(c => { }), WarmedUp(c => c.Execution.EnableWarmup = true))),
        ["warmup_samples"] = () => Assert.Equal((7, 256), (WarmedUp(7), WarmedUp(1000))),
        ["enable_profiling"] = KeyProofs.ProfilingTimesCalls,
    };

    public static IEnumerable<string> Keys => KvConfigurationKeys.All.Select(key => key.Name);

    // Every property that is a key: of a group, or one of the four beside them.
    private static IEnumerable<string> Properties =>
    [
        .. new[] { nameof(KvCacheConfig.Enabled), nameof(KvCacheConfig.MaxTokens), nameof(KvCacheConfig.CacheStrategy), nameof(KvCacheConfig.CacheMode) }.Select(Flat),
        .. typeof(KvCacheConfig).GetProperties()
            .Where(group => group.PropertyType.Name.EndsWith("Options", StringComparison.Ordinal))
            .SelectMany(group => group.PropertyType.GetProperties())
            .Select(property => Flat(property.Name)),
    ];

    public static TheoryData<string> KeyNames => [.. Keys];

    [Theory]
    [MemberData(nameof(KeyNames))]
    public void Every_key_has_an_effect_a_warning_or_a_reason(string key)
    {
        Assert.True(Proofs.TryGetValue(key, out Action? proof), $"no proof of {key}");
        proof();
    }

    [Fact]
    public void Every_property_has_a_row_and_every_row_a_property() => Assert.Equal(Properties.Order(), Keys.Order());

    [Fact]
    public void No_proof_is_of_a_key_that_is_gone() => Assert.Equal(Keys.Order(), Proofs.Keys.Order());

    [Fact]
    public void Every_key_of_the_contract_is_there()
    {
        string[] contract =
        [
            "num_heads", "head_dim", "max_tokens", "block_size", "cache_strategy", "cache_mode", "use_compression", "compression_ratio", "compression_method",
            "use_quantization", "quantization_bits", "max_memory_mb", "enable_gc", "gc_threshold", "pin_memory", "non_blocking", "dtype", "adaptive_compression",
            "adaptive_quantization", "monitor_memory", "enable_persistence", "persistence_path", "enable_prefetch", "prefetch_size", "enable_profiling",
            "enable_distributed", "distributed_backend", "multi_tenant", "tenant_isolation", "enable_async", "async_threads", "enable_warmup", "warmup_samples",
        ];
        Assert.Equal(["enabled", "tenant_max_tokens"], Keys.Except(contract));
        Assert.Empty(contract.Except(Keys));
    }

    internal static string Flat(string name) => Words().Replace(name, "_$1").ToLowerInvariant();

    internal static void Compress(KvCacheConfig config) => (config.Compression.UseCompression, config.Compression.AdaptiveCompression) = (true, false);

    internal static void Sealed(Action<KvCacheConfig> change, PageFormat key, PageFormat value)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(change);
        engine.PutMany(0, 48);
        Assert.Contains(engine.GetStats().Memory!.Pages.ByFormats, pages => pages.Formats == new KvFormats(key, value) && pages.Sealed > 0);
    }

    internal static void Refused(string key, Action<KvCacheConfig> change)
    {
        KvConfigurationReport report = Config(change).Validate();
        Assert.False(report.IsValid);
        Assert.Contains(key, report.Issues.Select(issue => issue.Key));
        Assert.Equal(key, Assert.Throws<KvConfigurationException>(() => Engine(change)).Setting);
    }

    internal static string Warning(KvCacheConfig config, string key) =>
        config.Validate().Warnings.FirstOrDefault(warning => warning.Key == key)?.Text ?? string.Empty;

    private static void WarnsWhenOn(string key, Action<KvCacheConfig, bool> set)
    {
        Assert.StartsWith("inactive", Warning(Config(c => set(c, true)), key), StringComparison.Ordinal);
        Assert.Empty(Warning(Config(c => set(c, false)), key));
        using UltraAdaptiveKvCacheEngine engine = Engine(c => set(c, true));
        Assert.Contains(key, engine.ValidateConfiguration().Warnings.Select(warning => warning.Key));
    }

    private static void ShapeFollows(Action<KvCacheConfig> change, Func<KvGeometry, int> read, int expected)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(change);
        Assert.Equal(expected, read(engine.Cache.Geometry));
        Assert.NotEqual(expected, read(Config().Geometry()));
    }

    // The setting is one of the cache below, whose effect its own tests hold.
    private static void SettingFollows<T>(Action<KvCacheConfig> change, Func<KvCacheOptions, T> read, T expected, T otherwise, Action<KvCacheConfig>? before = null)
    {
        using UltraAdaptiveKvCacheEngine changed = Engine(change);
        using UltraAdaptiveKvCacheEngine plain = Engine(before);
        Assert.Equal((expected, otherwise), (read(changed.Cache.Options), read(plain.Cache.Options)));
    }

    private static int Workers(Action<KvCacheConfig> change)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(change);
        return engine.StoreOptions().Workers;
    }

    private static int WarmedUp(int samples) => WarmedUp(c => (c.Execution.EnableWarmup, c.Execution.WarmupSamples) = (true, samples));

    private static int WarmedUp(Action<KvCacheConfig> change)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(change);
        Assert.Equal(0, engine.GetStats().Tokens);
        return engine.GetStats().WarmupTokens;
    }

    [GeneratedRegex("(?<!^)([A-Z])")]
    private static partial Regex Words();
}
