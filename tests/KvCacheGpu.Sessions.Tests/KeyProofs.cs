using static KvCacheGpu.Sessions.Tests.EngineSamples;
using static KvCacheGpu.Sessions.Tests.KeyTests;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>What the longer keys do, shown on engines that live.</summary>
internal static class KeyProofs
{
    public static void MaxTokensBoundsASession()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.MaxTokens = 20);
        engine.PutMany(0, 20);
        Assert.Equal("E001", Assert.Throws<KvOutOfMemoryException>(() => engine.PutMany(20, 1)).Code);
        engine.AssertHolds(19, 19);
        Assert.Contains("below 128", Warning(Config(c => c.MaxTokens = 127), "max_tokens"), StringComparison.Ordinal);
        Assert.Contains("above 65536", Warning(Config(c => c.MaxTokens = 65_537), "max_tokens"), StringComparison.Ordinal);
        Assert.Empty(Warning(Config(c => c.MaxTokens = 128), "max_tokens"));
        Assert.Empty(Warning(Config(c => (c.MaxTokens, c.Memory.MaxMemoryMb) = (65_537, 200)), "max_tokens"));
        Refused("max_tokens", c => c.MaxTokens = 0);
    }

    public static void StrategiesEvictOrRefuse()
    {
        foreach (KvCacheStrategy strategy in Enum.GetValues<KvCacheStrategy>())
        {
            Action<KvCacheConfig> tight = c => (c.CacheStrategy, c.MaxTokens) = (strategy, 2048);
            KvCacheOptions settings;
            using (UltraAdaptiveKvCacheEngine roomy = Engine(tight))
            {
                settings = roomy.Cache.Options;
            }

            settings.MemoryBudgetBytes = null;
            long least = KvCache.BytesFor(Config(tight).Geometry(), settings).MinimumBytes;
            using UltraAdaptiveKvCacheEngine engine = Engine(c =>
            {
                tight(c);
                c.ConfigureOptions += options => options.MemoryBudgetBytes = least;
            });
            bool evicts = strategy is KvCacheStrategy.Lru or KvCacheStrategy.Lfu or KvCacheStrategy.Adaptive;
            Exception? refused = Record.Exception(() => engine.PutMany(0, 400));
            Assert.Equal(evicts, refused is null);
            Assert.Equal(evicts, engine.GetStats().EvictedTokens > 0);
        }

        Assert.IsType<LruPolicy>(Policy(KvCacheStrategy.Lru));
        Assert.IsType<LfuPolicy>(Policy(KvCacheStrategy.Lfu));
        Assert.IsType<AdaptivePolicy>(Policy(KvCacheStrategy.Adaptive));
        Sealed(c => c.CacheStrategy = KvCacheStrategy.Quantized, PageFormat.I8, PageFormat.I8);
        Sealed(c => (c.CacheStrategy, c.Compression.CompressionRatio) = (KvCacheStrategy.Compressed, 0.6), PageFormat.I8, PageFormat.I8);
        Refused("cache_strategy", c => c.CacheStrategy = (KvCacheStrategy)9);
    }

    public static void ModesSetStepsAndWindows()
    {
        Assert.Equal((512, 64), Mode(KvCacheMode.Inference));
        Assert.Equal((2048, 64), Mode(KvCacheMode.Bulk));
        Assert.Equal((128, 256), Mode(KvCacheMode.Interactive));
        using UltraAdaptiveKvCacheEngine streaming = Engine(c => c.CacheMode = KvCacheMode.Streaming);
        streaming.PutMany(0, 200);
        Assert.Null(streaming.Get(40));
        streaming.AssertHolds(0, 0);
        Assert.StartsWith("inactive", Warning(Config(c => c.CacheMode = KvCacheMode.Streaming), "cache_strategy"), StringComparison.Ordinal);
        Assert.Contains("keeps no window", Warning(Config(c => (c.CacheMode, c.CacheStrategy) = (KvCacheMode.Streaming, KvCacheStrategy.Paged)), "cache_mode"), StringComparison.Ordinal);
        Refused("cache_mode", c => c.CacheMode = KvCacheMode.Training);
        Assert.Contains("no gradients", Config(c => c.CacheMode = KvCacheMode.Training).Validate().Issues[0].ToString(), StringComparison.Ordinal);
    }

    public static void CompressionIsLossyAndOffIsExact()
    {
        using UltraAdaptiveKvCacheEngine exact = Engine();
        using UltraAdaptiveKvCacheEngine lossy = Engine(Compress);
        exact.PutMany(0, 48);
        lossy.PutMany(0, 48);
        exact.AssertHolds(0, 0);
        float[] key = lossy.Get(0)!.Value.Key;
        Assert.NotEqual(Key(0), key);
        AssertNear(Key(0), key, 0.5);
    }

    public static void ALowerRatioTakesFewerBytes()
    {
        long[] bytes = [.. new[] { 1, 0.6, 0.4, 0.3, 0.2 }.Select(BytesAt)];
        Assert.Equal(bytes.OrderDescending().Distinct(), bytes);
        Assert.Contains("below 0.1", Warning(Config(c => { Compress(c); c.Compression.CompressionRatio = 0.09; }), "compression_ratio"), StringComparison.Ordinal);
        Assert.Contains("above 0.9", Warning(Config(c => { Compress(c); c.Compression.CompressionRatio = 0.95; }), "compression_ratio"), StringComparison.Ordinal);
        Assert.Empty(Warning(Config(c => { Compress(c); c.Compression.CompressionRatio = 0.6; }), "compression_ratio"));
        Assert.All(new[] { 0, -1, 1.01, double.NaN }, ratio => Refused("compression_ratio", c => c.Compression.CompressionRatio = ratio));

        static long BytesAt(double ratio)
        {
            using UltraAdaptiveKvCacheEngine engine = Engine(c => { Compress(c); c.Compression.CompressionRatio = ratio; });
            engine.PutMany(0, 200);
            return engine.GetStats().Memory!.Pages.ByFormats.Sum(pages => pages.Bytes);
        }
    }

    public static void BitsAreFormats()
    {
        (int, PageFormat, PageFormat)[] formats =
        [
            (16, PageFormat.F16, PageFormat.F16), (8, PageFormat.I8, PageFormat.I8), (4, PageFormat.T4, PageFormat.V4),
            (3, PageFormat.T3, PageFormat.V3), (2, PageFormat.T2, PageFormat.V2),
        ];
        foreach ((int bits, PageFormat key, PageFormat value) in formats)
        {
            Sealed(c => (c.Compression.UseQuantization, c.Compression.QuantizationBits) = (true, bits), key, value);
        }

        Assert.StartsWith("inactive", Warning(Config(c => c.Compression.QuantizationBits = 4), "quantization_bits"), StringComparison.Ordinal);
        Refused("quantization_bits", c => c.Compression.QuantizationBits = 5);
    }

    public static void MonitoringTellsMemory()
    {
        using UltraAdaptiveKvCacheEngine on = Engine();
        using UltraAdaptiveKvCacheEngine off = Engine(c => c.Memory.MonitorMemory = false);
        on.PutMany(0, 3);
        Assert.Null(off.GetStats().Memory);
        KvEngineMemory memory = on.GetStats().Memory!;
        Assert.Equal((on.Cache.AllocatedBytes, on.Cache.BudgetBytes, 3L * Token * 2 * 2), (memory.AllocatedBytes, memory.BudgetBytes, memory.FullPrecisionBytes));
    }

    public static void PersistenceOffRefusesToSave()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 1);
        Assert.Equal("enable_persistence", Assert.Throws<KvConfigurationException>(() => { _ = engine.SaveAsync("a"); }).Setting);
        Refused("persistence_path", c => c.Persistence.EnablePersistence = true);
    }

    public static void ThePathIsWhereSessionsAre()
    {
        string path = Directory.CreateTempSubdirectory("kv-keys").FullName;
        try
        {
            using UltraAdaptiveKvCacheEngine engine = Engine(c => (c.Persistence.EnablePersistence, c.Persistence.PersistencePath) = (true, path));
            engine.PutMany(0, 1);
            engine.SaveAsync("a").GetAwaiter().GetResult();
            Assert.NotEmpty(Directory.EnumerateFileSystemEntries(path));
        }
        finally
        {
            Directory.Delete(path, recursive: true);
        }
    }

    public static void CollectivesAreRefused()
    {
        foreach (KvDistributedBackend backend in (KvDistributedBackend[])[KvDistributedBackend.Nccl, KvDistributedBackend.Gloo, KvDistributedBackend.Mpi])
        {
            Refused("distributed_backend", c => (c.Distributed.EnableDistributed, c.Distributed.DistributedBackend) = (true, backend));
            Assert.True(Config(c => c.Distributed.DistributedBackend = backend).Validate().IsValid);
        }

        Assert.Contains("keep nothing", Config(c => c.Distributed.EnableDistributed = true).Validate().Issues[0].Expected, StringComparison.Ordinal);
    }

    public static void TenantsMustBeNamed()
    {
        using UltraAdaptiveKvCacheEngine many = Engine(c => c.Tenancy.MultiTenant = true);
        using UltraAdaptiveKvCacheEngine one = Engine();
        many.PutMany(0, 1, new KvSessionKey("a", "acme"));
        Assert.Throws<ArgumentException>(() => many.PutMany(0, 1, "a"));
        Assert.Throws<ArgumentException>(() => one.PutMany(0, 1, new KvSessionKey("a", "acme")));
    }

    public static void IsolationIsInEveryKey()
    {
        var (acme, other) = (new KvSessionKey("a", "acme"), new KvSessionKey("a", "other"));
        using UltraAdaptiveKvCacheEngine apart = Engine(c => c.Tenancy.MultiTenant = true);
        apart.PutMany(0, 1, acme);
        Assert.Null(apart.Get(0, other));
        Assert.False(apart.Clear(other));
        using UltraAdaptiveKvCacheEngine shared = Engine(c => (c.Tenancy.MultiTenant, c.Tenancy.TenantIsolation) = (true, false));
        shared.PutMany(0, 1, acme);
        shared.AssertHolds(0, 0, other);
    }

    public static void QuotasBind()
    {
        var (first, second) = (new KvSessionKey("a", "acme"), new KvSessionKey("b", "acme"));
        using UltraAdaptiveKvCacheEngine engine = Engine(c => (c.Tenancy.MultiTenant, c.Tenancy.TenantMaxTokens) = (true, 10));
        engine.PutMany(0, 6, first);
        engine.PutMany(0, 4, second);
        KvOutOfMemoryException full = Assert.Throws<KvOutOfMemoryException>(() => engine.PutMany(6, 1, first));
        Assert.Equal(("E001", KvResource.TenantTokens, 1L, 0L, "acme"), (full.Code, full.Shortage.Resource, full.Shortage.Needed, full.Shortage.Free, full.Shortage.Tenant));
        engine.Put(3, Key(3), Value(3), first);
        engine.PutMany(0, 10, new KvSessionKey("a", "other"));
        engine.Clear(second);
        engine.PutMany(6, 4, first);
        Refused("tenant_max_tokens", c => c.Tenancy.TenantMaxTokens = 0);
    }

    public static void ProfilingTimesCalls()
    {
        using UltraAdaptiveKvCacheEngine off = Engine();
        using UltraAdaptiveKvCacheEngine on = Engine(c => c.Execution.EnableProfiling = true);
        Assert.Null(off.GetStats().Times);
        on.PutMany(0, 5);
        _ = on.Get(0);
        on.Forward(Numbers(1), new float[Token]);
        IReadOnlyDictionary<string, KvCallTimes> times = on.GetStats().Times!;
        Assert.Equal((5L, 1L, 1L), (times["put"].Count, times["get"].Count, times["forward"].Count));
        Assert.True(times["put"].P50 > TimeSpan.Zero && times["put"].P50 <= times["put"].P95 && times["put"].P95 <= times["put"].P99);
    }

    private static KvPolicy? Policy(KvCacheStrategy strategy) => Config(c => c.CacheStrategy = strategy).ToOptions(Config().Geometry()).Policy;

    private static (int StepTokens, int Window) Mode(KvCacheMode mode)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => (c.CacheMode, c.MaxTokens) = (mode, 4096));
        KvCacheOptions settings = engine.Cache.Options;
        int most = settings.MaxBatchTokens;
        engine.Put(0, Numbers(1, most * Token), Numbers(2, most * Token));
        Assert.Throws<ArgumentException>(() => engine.Put(0, Numbers(1, (most + 1) * Token), Numbers(2, (most + 1) * Token), "b"));
        return (most, settings.Policy!.WindowTokens);
    }
}
