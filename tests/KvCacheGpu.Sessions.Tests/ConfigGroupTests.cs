using System.Reflection;
using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>The configuration as a type: what it prints, copies and refuses, and what code's own choices win over.</summary>
public class ConfigGroupTests
{
    [Fact]
    public void Defaults_are_the_contract_and_refuse_nothing()
    {
        var config = new KvCacheConfig();
        Assert.True(config.Validate().IsValid);
        Assert.Equal(
            "KvCacheConfig { enabled = true, num_heads = 8, head_dim = 64, max_tokens = 4096, block_size = 64, cache_strategy = adaptive, cache_mode = inference, "
            + "use_compression = true, compression_ratio = 0.3, compression_method = auto, use_quantization = false, quantization_bits = 8, max_memory_mb = nothing, "
            + "enable_gc = true, gc_threshold = 0.8, pin_memory = true, non_blocking = true, dtype = float16, adaptive_compression = true, adaptive_quantization = true, "
            + "monitor_memory = true, enable_persistence = false, persistence_path = nothing, enable_prefetch = true, prefetch_size = 8, enable_profiling = false, "
            + "enable_distributed = false, distributed_backend = nccl, multi_tenant = false, tenant_isolation = true, tenant_max_tokens = nothing, enable_async = true, "
            + "async_threads = 2, enable_warmup = false, warmup_samples = 100 }",
            config.ToString());
    }

    [Fact]
    public void The_defaults_lose_precision_and_say_so()
    {
        KvCacheOptions options = new KvCacheConfig().ToOptions(new KvCacheConfig().Geometry());
        Assert.Equal((PageFormat.T4, PageFormat.V4), (options.KeyFormat, options.ValueFormat));
        Assert.StartsWith("lossy: pages are sealed in t4/v4, 0.29 of full precision", KeyTests.Warning(new KvCacheConfig(), "use_compression"), StringComparison.Ordinal);
        var exact = new KvCacheConfig { Compression = { UseCompression = false } };
        Assert.Empty(KeyTests.Warning(exact, "use_compression"));
        Assert.Equal(new KvCacheOptions().KeyFormat, exact.ToOptions(Config().Geometry()).KeyFormat);
        var quantized = new KvCacheConfig { Compression = { UseQuantization = true, QuantizationBits = 4 } };
        Assert.StartsWith("lossy: pages are sealed in t4/v4", KeyTests.Warning(quantized, "use_quantization"), StringComparison.Ordinal);
        Assert.EndsWith("another cache_strategy", KeyTests.Warning(new KvCacheConfig { CacheStrategy = KvCacheStrategy.Quantized }, "use_quantization"), StringComparison.Ordinal);
    }

    [Fact]
    public void What_no_key_sets_is_as_the_cache_has_it()
    {
        KvCacheOptions options = new KvCacheConfig { ConfigureOptions = o => o.PrefixReuse = true }.ToOptions(Config().Geometry());
        Assert.True(options.PrefixReuse);
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => Engine(c => c.ConfigureOptions += o => o.PrefixReuse = true));
        Assert.Equal(nameof(KvCacheOptions.PrefixReuse), refused.Setting);
    }

    [Fact]
    public void A_budget_in_percent_by_code_takes_the_place_of_the_key()
    {
        var config = new KvCacheConfig { Memory = { MaxMemoryMb = 100 }, ConfigureOptions = o => o.MemoryBudgetPercent = 90 };
        KvCacheOptions options = config.ToOptions(Config().Geometry());
        Assert.Equal((null, 90.0), (options.MemoryBudgetBytes, options.MemoryBudgetPercent));
    }

    [Fact]
    public void Demotions_follow_the_formats_that_code_chose()
    {
        var config = new KvCacheConfig { ConfigureOptions = o => (o.KeyFormat, o.ValueFormat) = (PageFormat.F16, PageFormat.F16) };
        Assert.Equal(3, config.ToOptions(Config().Geometry()).DemotionFormats.Count);
        config.ConfigureOptions += o => o.DemotionFormats = [new(PageFormat.T4, PageFormat.V4)];
        Assert.Single(config.ToOptions(Config().Geometry()).DemotionFormats);
    }

    [Fact]
    public void A_copy_changes_apart_in_every_group()
    {
        var config = new KvCacheConfig();
        string before = config.ToString();
        KvCacheConfig copy = config.Copy();
        foreach (PropertyInfo group in typeof(KvCacheConfig).GetProperties().Where(p => p.PropertyType.Name.EndsWith("Options", StringComparison.Ordinal)))
        {
            Assert.NotSame(group.GetValue(config), group.GetValue(copy));
            Assert.Equal(group.GetValue(config), group.GetValue(copy));
        }

        copy.Memory.GcThreshold = 0.1;
        Assert.Equal(before, config.ToString());
    }

    [Fact]
    public void What_code_has_set_wins_over_the_keys()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            c.Compression.UseCompression = true;
            c.CacheStrategy = KvCacheStrategy.Lru;
            c.Memory.MaxMemoryMb = 100;
            c.ConfigureOptions += options =>
            {
                (options.KeyFormat, options.ValueFormat) = (PageFormat.F16, PageFormat.F16);
                options.Policy = new H2oPolicy();
                (options.Watermark, options.MaxBatchTokens, options.MemoryBudgetBytes) = (0.9, 33, 20_000_000);
            };
        });
        KvCacheOptions settings = engine.Cache.Options;
        Assert.Equal((PageFormat.F16, PageFormat.F16, 0.9, 33, 20_000_000L), (settings.KeyFormat, settings.ValueFormat, settings.Watermark, settings.MaxBatchTokens, settings.MemoryBudgetBytes));
        Assert.IsType<H2oPolicy>(settings.Policy);
    }

    [Theory]
    [InlineData("num_heads")]
    [InlineData("head_dim")]
    [InlineData("block_size")]
    [InlineData("compression_method")]
    [InlineData("dtype")]
    [InlineData("max_memory_mb")]
    [InlineData("gc_threshold")]
    [InlineData("async_threads")]
    [InlineData("warmup_samples")]
    [InlineData("prefetch_size")]
    public void What_a_key_may_not_be_is_refused_by_its_name(string key) => KeyTests.Refused(key, config =>
    {
        _ = key switch
        {
            "num_heads" => config.Model.NumHeads = 0,
            "head_dim" => config.Model.HeadDim = 7,
            "block_size" => config.Model.BlockSize = 48,
            "compression_method" => (config.Compression.CompressionMethod = "zip").Length,
            "dtype" => (int)(config.Compression.Dtype = (KvDtype)7),
            "max_memory_mb" => config.Memory.MaxMemoryMb = 99,
            "gc_threshold" => (config.Memory.GcThreshold = double.NaN) > 0 ? 1 : 0,
            "async_threads" => config.Execution.AsyncThreads = 0,
            "warmup_samples" => config.Execution.WarmupSamples = 0,
            _ => config.Prefetch.PrefetchSize = 0,
        };
    });

    [Theory]
    [InlineData("svd")]
    [InlineData("LowRank")]
    [InlineData("sparse")]
    public void Methods_of_old_are_auto_with_a_warning(string method)
    {
        KvCacheConfig config = Config(c => { KeyTests.Compress(c); c.Compression.CompressionMethod = method; });
        Assert.Contains("taken as auto", KeyTests.Warning(config, "compression_method"), StringComparison.Ordinal);
        KvCacheOptions auto = Config(KeyTests.Compress).ToOptions(config.Geometry());
        Assert.Equal(auto.KeyFormat, config.ToOptions(config.Geometry()).KeyFormat);
    }

    [Fact]
    public void Every_strategy_mode_and_width_makes_an_engine()
    {
        foreach (KvCacheStrategy strategy in Enum.GetValues<KvCacheStrategy>())
        {
            foreach (int width in (int[])[8, 24, 64, 96, 576])
            {
                using var engine = new UltraAdaptiveKvCacheEngine(new KvCacheConfig
                {
                    MaxTokens = 64,
                    ConfigureOptions = options => options.Device = "cpu",
                    CacheStrategy = strategy,
                    Model = { NumHeads = 1, HeadDim = width },
                });
                engine.Put(0, Numbers(1, width), Numbers(2, width));
                Assert.Equal(Numbers(1, width), engine.Get(0)!.Value.Key);
            }
        }
    }

    [Fact]
    public void A_ratio_that_no_format_reaches_warns()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => (c.Compression.UseCompression, c.MaxTokens, c.Compression.CompressionRatio) = (true, 128, 0.1));
        Assert.Contains(engine.ValidateConfiguration().Warnings, warning => warning.Key == "compression_ratio" && warning.Text.StartsWith("not reached", StringComparison.Ordinal));
        engine.PutMany(0, 128);
    }
}
