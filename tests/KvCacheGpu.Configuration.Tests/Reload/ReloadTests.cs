using Microsoft.Extensions.Primitives;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>What becomes of a changed file while an engine runs. The test says when it changed: nobody waits for a watch.</summary>
public sealed class ReloadTests : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Live_keys_reach_a_running_engine_and_all_others_are_refused_with_the_reason()
    {
        string file = _folder.Write("c.yaml", "kv_cache:\n  max_tokens: 256\n  gc_threshold: 0.8\n");
        using UltraAdaptiveKvCacheEngine engine = new(_folder.Load("c.yaml").Config);
        using KvConfigurationReload reload = new(Sources(), engine.Apply, NeverChanges);
        Assert.Equal(0.8, engine.Cache.Watermark);

        _folder.Write("c.yaml", "kv_cache:\n  max_tokens: 512\n  gc_threshold: 0.6\n  enable_profiling: true\n");
        KvReloadOutcome outcome = reload.Reload();

        Assert.Null(outcome.Error);
        Assert.Equal([$"gc_threshold 0.8 -> 0.6 ({file}:3)", $"enable_profiling false -> true ({file}:4)"], outcome.Applied.Select(c => $"{c}"));
        Assert.Equal(
            [$"max_tokens 256 -> 512 ({file}:2): refused, the cache is made with it; the next start takes it, until then 256 stays"], outcome.Refused.Select(KvReloadOutcome.Reason));
        Assert.Equal(0.6, engine.Cache.Watermark);
        Assert.NotNull(engine.GetStats().Times);
        Assert.Equal((256, 0.6), (reload.Current.Config.MaxTokens, reload.Current.Config.Memory.GcThreshold));
        Assert.Equal(($"{file}:2", $"{file}:3"), ($"{reload.Current["max_tokens"].Origin}", $"{reload.Current["gc_threshold"].Origin}"));
        Assert.Equal("256", reload.Current["max_tokens"].Value);
    }

    [Fact]
    public void Every_live_key_changes_the_engine()
    {
        Dictionary<string, (string Value, Func<UltraAdaptiveKvCacheEngine, object?> Look)> seen = new()
        {
            ["enable_gc"] = ("false", engine => engine.Cache.Watermark),
            ["gc_threshold"] = ("0.5", engine => engine.Cache.Watermark),
            ["monitor_memory"] = ("false", engine => engine.GetStats().Memory is null),
            ["enable_profiling"] = ("true", engine => engine.GetStats().Times is null),
            ["tenant_max_tokens"] = ("7", engine => engine.Config.Tenancy.TenantMaxTokens),
        };
        Assert.Equal(KvConfigurationKeys.All.Where(key => key.IsLive).Select(key => key.Name).Order(StringComparer.Ordinal), seen.Keys.Order(StringComparer.Ordinal));
        foreach ((string key, (string value, Func<UltraAdaptiveKvCacheEngine, object?> look)) in seen)
        {
            _folder.Write("c.yaml", "kv_cache:\n  max_tokens: 256\n");
            using UltraAdaptiveKvCacheEngine engine = new(_folder.Load("c.yaml").Config);
            using KvConfigurationReload reload = new(Sources(), engine.Apply, NeverChanges);
            object? before = look(engine);
            _folder.Write("c.yaml", $"kv_cache:\n  max_tokens: 256\n  {key}: {value}\n");
            Assert.Equal([key], reload.Reload().Applied.Select(c => c.Key));
            Assert.NotEqual(before, look(engine));
        }
    }

    [Theory]
    [InlineData("kv_cache:\n  gc_threshold: 2\n")]
    [InlineData("kv_cache:\n  gc_threshold: 0.6\n  max_tokens: many\n")]
    [InlineData("kv_cache:\n  gc_threshold: 0.6\n  enable_persistence: true\n")]
    [InlineData("kv_cache: [")]
    [InlineData("version: 9\n")]
    public void A_malformed_change_is_refused_whole(string text)
    {
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.7\n");
        List<KvCacheConfig> applied = [];
        using KvConfigurationReload reload = new(Sources(), applied.Add, NeverChanges);
        KvConfiguration before = reload.Current;
        _folder.Write("c.yaml", text);
        KvReloadOutcome outcome = reload.Reload();
        Assert.IsAssignableFrom<KvCacheException>(outcome.Error);
        Assert.Empty(applied);
        Assert.Same(before, reload.Current);
    }

    [Fact]
    public void A_file_that_is_gone_changes_nothing_and_one_that_comes_back_is_taken()
    {
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.7\n");
        List<KvCacheConfig> applied = [];
        using KvConfigurationReload reload = new(Sources(), applied.Add, NeverChanges);
        File.Delete(_folder["c.yaml"]);
        Assert.IsType<FileNotFoundException>(reload.Reload().Error);
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.6\n");
        Assert.Equal(["gc_threshold"], reload.Reload().Applied.Select(c => c.Key));
        Assert.Equal([0.6], applied.Select(config => config.Memory.GcThreshold));
        Assert.True(reload.Reload().IsUnchanged);
    }

    [Fact]
    public void What_tells_of_changes_triggers_a_reload_until_disposed()
    {
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.7\n");
        CancellationTokenSource change = new();
        List<KvReloadOutcome> outcomes = [];
        KvConfigurationReload reload = new(Sources(), _ => { }, () => new CancellationChangeToken(change.Token));
        reload.Reloaded += outcomes.Add;
        foreach (string value in new[] { "0.6", "0.6", "0.5" })
        {
            _folder.Write("c.yaml", $"kv_cache:\n  gc_threshold: {value}\n");
            Fire(ref change);
        }

        Assert.Equal(["0.6", "0.5"], outcomes.Select(o => o.Applied.Single().To));
        reload.Dispose();
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.4\n");
        Fire(ref change);
        Assert.Equal(2, outcomes.Count);
    }

    [Fact]
    public void A_value_that_code_or_a_variable_says_stays()
    {
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.7\n");
        using KvConfigurationReload reload = new(
            Sources() with { Environment = new Dictionary<string, string> { ["KV_CACHE_GC_THRESHOLD"] = "0.9" } }, _ => Assert.Fail("applied"), NeverChanges);
        _folder.Write("c.yaml", "kv_cache:\n  gc_threshold: 0.6\n");
        Assert.True(reload.Reload().IsUnchanged);
    }

    [Fact]
    public void An_engine_refuses_live_values_out_of_range_and_keeps_the_old()
    {
        using UltraAdaptiveKvCacheEngine engine = new(new KvCacheConfig { MaxTokens = 256 });
        KvCacheConfig wrong = new() { MaxTokens = 256 };
        wrong.Memory.GcThreshold = 0;
        wrong.Execution.EnableProfiling = true;
        Assert.Throws<KvConfigurationException>(() => engine.Apply(wrong));
        Assert.Equal((0.8, null), (engine.Cache.Watermark, engine.GetStats().Times));
        using KvCache cache = new(new KvGeometry(1, 1, 1, 64), new KvCacheOptions { MaxTokens = 64, Device = "cpu" });
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.Watermark = double.NaN);
    }

    private static IChangeToken? NeverChanges() => null;

    private static void Fire(ref CancellationTokenSource change)
    {
        CancellationTokenSource fired = change;
        change = new CancellationTokenSource();
        fired.Cancel();
    }

    private KvConfigurationSources Sources() => new() { File = _folder["c.yaml"], Environment = Folder.NoVariables };
}
