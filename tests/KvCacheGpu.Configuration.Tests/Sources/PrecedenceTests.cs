using System.Text;
using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>Code wins over the environment, that over .env, that over the file, that over the preset, that over the default; and each says so.</summary>
public sealed class PrecedenceTests : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Each_source_wins_over_those_below_and_is_named_as_origin()
    {
        // Six keys, each said by one source more than the one before.
        string file = _folder.Write("kv_cache.yaml", """
            preset: high_performance
            kv_cache:
              prefetch_size: 20
              gc_threshold: 0.71
              async_threads: 3
              warmup_samples: 11
            """);
        string env = _folder.Write(".env", """
            KV_CACHE_GC_THRESHOLD=0.72
            KV_CACHE_ASYNC_THREADS=4
            KV_CACHE_WARMUP_SAMPLES=12
            """);
        KvConfiguration loaded = KvConfiguration.Load(new KvConfigurationSources
        {
            File = file,
            EnvFile = env,
            Environment = new Dictionary<string, string> { ["KV_CACHE_ASYNC_THREADS"] = "5", ["KV_CACHE_WARMUP_SAMPLES"] = "13", ["HOME"] = "/root" },
            Configure = config => config.Execution.WarmupSamples = 14,
        });

        Assert.Equal(new KvSetting("head_dim", "64", new(KvSettingSource.Default, string.Empty)), Origin(loaded, "head_dim", "default"));
        Assert.Equal(new KvSetting("max_tokens", "32768", new(KvSettingSource.Preset, "high_performance")), Origin(loaded, "max_tokens", "preset high_performance"));
        Assert.Equal("20", Origin(loaded, "prefetch_size", $"{file}:3").Value);
        Assert.Equal("0.72", Origin(loaded, "gc_threshold", $"{env}:1").Value);
        Assert.Equal("5", Origin(loaded, "async_threads", "variable KV_CACHE_ASYNC_THREADS").Value);
        Assert.Equal("14", Origin(loaded, "warmup_samples", "code").Value);
        Assert.Equal(
            (64, 32768, 20, 0.72, 5, 14),
            (loaded.Config.Model.HeadDim, loaded.Config.MaxTokens, loaded.Config.Prefetch.PrefetchSize, loaded.Config.Memory.GcThreshold, loaded.Config.Execution.AsyncThreads, loaded.Config.Execution.WarmupSamples));
        Assert.Empty(loaded.Warnings);
    }

    [Fact]
    public void A_preset_is_named_by_code_then_environment_then_env_file_then_file()
    {
        KvConfigurationSources sources = new() { File = _folder.Write("a.yaml", "preset: development\n"), Environment = Folder.NoVariables };
        Assert.Equal(("development", 1024), Preset(sources));
        sources = sources with { EnvFile = _folder.Write(".env", "KV_CACHE_PRESET=high_performance\n") };
        Assert.Equal(("high_performance", 32768), Preset(sources));
        sources = sources with { Environment = new Dictionary<string, string> { ["KV_CACHE_PRESET"] = "memory_efficient" } };
        Assert.Equal(("memory_efficient", 4096), Preset(sources));
        Assert.Equal(("production", 16384), Preset(sources with { Preset = "production" }));
    }

    [Theory]
    [InlineData("development", "max_tokens=1024 enable_persistence=false")]
    [InlineData("production", "max_tokens=16384 enable_persistence=true persistence_path=/data/cache")]
    [InlineData("high_performance", "max_tokens=32768 enable_prefetch=true prefetch_size=16")]
    [InlineData("memory_efficient", "max_tokens=4096 compression_ratio=0.5 use_quantization=true quantization_bits=4")]
    [InlineData("bulk_processing", "max_tokens=32768 cache_mode=bulk")]
    public void Presets_set_their_values_and_nothing_else(string preset, string expected)
    {
        KvConfiguration loaded = KvConfiguration.Load(new KvConfigurationSources { Preset = preset, Environment = Folder.NoVariables });
        Assert.Equal(expected, string.Join(' ', expected.Split(' ').Select(e => e.Split('=')[0]).Select(key => $"{key}={loaded[key].Value}")));
        Assert.Equal(
            expected.Split(' ').Select(e => e.Split('=')[0]).Order(StringComparer.Ordinal),
            loaded.Settings.Where(s => s.Origin.Source == KvSettingSource.Preset).Select(s => s.Key).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Variables_follow_one_rule_and_have_their_old_names()
    {
        KvConfiguration loaded = Variables(("KV_CACHE_STRATEGY", "LFU"), ("KV_CACHE_COMPRESSION", "off"), ("KV_CACHE_ENABLED", "0"), ("KV_CACHE_MAX_MEMORY_MB", ""));
        Assert.Equal((KvCacheStrategy.Lfu, false, false, null), (loaded.Config.CacheStrategy, loaded.Config.Compression.UseCompression, loaded.Enabled, loaded.Config.Memory.MaxMemoryMb));
        Assert.Empty(loaded.Warnings);
        foreach (KvConfigurationKey key in KvConfigurationKeys.All)
        {
            Assert.Equal($"variable {key.Variable}", $"{Variables((key.Variable, key.Default ?? string.Empty))[key.Name].Origin}");
        }
    }

    [Fact]
    public void The_variable_named_as_its_key_wins_over_other_names()
    {
        KvConfiguration loaded = Variables(("KV_CACHE_COMPRESSION", "true"), ("KV_CACHE_USE_COMPRESSION", "false"), ("KV_CACHE_SIZE", "99"), ("KV_CACHE_MAX_TOKENS", "200"));
        Assert.Equal((false, 200), (loaded.Config.Compression.UseCompression, loaded.Config.MaxTokens));
        Assert.Equal(
            ["variable KV_CACHE_COMPRESSION: inactive beside KV_CACHE_USE_COMPRESSION", "variable KV_CACHE_SIZE: inactive beside KV_CACHE_MAX_TOKENS"], loaded.Warnings);
    }

    [Fact]
    public void A_hosts_own_providers_are_bound_as_well()
    {
        using MemoryStream appsettings = new(Encoding.UTF8.GetBytes("""{ "kv_cache": { "max_tokens": 777, "gc_treshold": 0.5 }, "preset": "bulk_processing" }"""));
        IConfigurationRoot root = new ConfigurationBuilder()
            .AddJsonStream(appsettings)
            .AddKvCache(new KvConfigurationSources { Environment = new Dictionary<string, string> { ["KV_CACHE_PREFETCH_SIZE"] = "9" } })
            .Build();
        KvConfiguration bound = KvConfiguration.From(root, config => config.Memory.GcThreshold = 0.5);
        Assert.Equal(
            (777, KvCacheMode.Bulk, 9, 0.5), (bound.Config.MaxTokens, bound.Config.CacheMode, bound.Config.Prefetch.PrefetchSize, bound.Config.Memory.GcThreshold));
        Assert.Equal("9", root["kv_cache:prefetch_size"]);
        Assert.Equal(["kv_cache:gc_treshold: not a key; did you mean gc_threshold?"], bound.Warnings);
    }

    private static KvConfiguration Variables(params (string Name, string Value)[] variables) =>
        KvConfiguration.Load(new KvConfigurationSources { Environment = variables.ToDictionary(v => v.Name, v => v.Value) });

    private static (string? Name, int Tokens) Preset(KvConfigurationSources sources)
    {
        KvConfiguration loaded = KvConfiguration.Load(sources);
        return (loaded.Preset, loaded.Config.MaxTokens);
    }

    private static KvSetting Origin(KvConfiguration loaded, string key, string expected)
    {
        Assert.Equal(expected, $"{loaded[key].Origin}");
        return loaded[key];
    }
}
