using System.Reflection;
using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.EngineSamples;

namespace KvCacheGpu.Tests;

/// <summary>The configuration as a type: what it prints, copies and refuses, and what code's own choices win over.</summary>
public class ConfigGroupTests
{
    [Fact]
    public void Defaults_are_the_contract_and_refuse_nothing()
    {
        var config = new KvCacheConfig();
        Assert.True(config.Validate().IsValid);
        string[] printed =
        [
            "NumHeads = 8", "HeadDim = 64", "BlockSize = 64", "MaxTokens = 4096", "CacheStrategy = Adaptive", "CacheMode = Inference", "UseCompression = True",
            "CompressionRatio = 0.3", "CompressionMethod = auto", "UseQuantization = False", "QuantizationBits = 8", "MaxMemoryMb = ,", "EnableGc = True",
            "GcThreshold = 0.8", "PinMemory = True", "NonBlocking = True", "Dtype = Float16", "AdaptiveCompression = True", "AdaptiveQuantization = True",
            "MonitorMemory = True", "EnablePersistence = False", "PersistencePath = ", "EnablePrefetch = True", "PrefetchSize = 8", "EnableProfiling = False",
            "EnableDistributed = False", "DistributedBackend = Nccl", "MultiTenant = False", "TenantIsolation = True", "EnableAsync = True", "AsyncThreads = 2",
            "EnableWarmup = False", "WarmupSamples = 100",
        ];
        Assert.All(printed, text => Assert.Contains(text, config.ToString(), StringComparison.Ordinal));
    }

    [Fact]
    public void It_prints_every_property()
    {
        string text = new KvCacheConfig().ToString();
        foreach (PropertyInfo property in typeof(KvCacheConfig).GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.Name != nameof(KvCacheConfig.ConfigureOptions)))
        {
            Assert.Contains($"{property.Name} = ", text, StringComparison.Ordinal);
        }
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
