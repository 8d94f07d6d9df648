using System.Diagnostics;
using System.Text;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>What good files may look like: marks, line ends, remarks, quotes, keys of others, and version 1.</summary>
public sealed class AcceptedTests : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("c.json", "// a remark\n{\"kv_cache\": {\"max_tokens\": 77, /* b */ \"persistence_path\": \"/d \\u00e9\",}}\n")]
    [InlineData("c.yaml", "# a remark\nkv_cache:\n  max_tokens: 77 # b\n  persistence_path: \"/d \\u00e9\"\n")]
    [InlineData("c.yml", "%YAML 1.2\n---\nkv_cache: {max_tokens: 77, persistence_path: '/d é'}\n...\n")]
    [InlineData(".env", "# a remark\nexport KV_CACHE_MAX_TOKENS = 77 # b\nKV_CACHE_PERSISTENCE_PATH=\"/d é\"   # c\n")]
    public void Marks_and_line_ends_do_not_matter(string name, string text)
    {
        foreach (string ends in new[] { "\n", "\r\n" })
        {
            foreach (byte[] mark in new byte[][] { [], [0xEF, 0xBB, 0xBF] })
            {
                _folder.Write(name, [.. mark, .. Encoding.UTF8.GetBytes(text.Replace("\n", ends, StringComparison.Ordinal))]);
                string before = _folder.Hash(name);
                KvConfiguration loaded = Load(name);
                Assert.Equal((77, "/d é"), (loaded.Config.MaxTokens, loaded.Config.Persistence.PersistencePath));
                Assert.Empty(loaded.Warnings);
                Assert.Equal(before, _folder.Hash(name));
            }
        }
    }

    [Theory]
    [InlineData("/data/#1", "/data/#1")]
    [InlineData("/data #1", "/data")]
    [InlineData("'/a #\"b' # c", "/a #\"b")]
    [InlineData("\"/a\\t\\\"\\\\\\$x\"", "/a\t\"\\$x")]
    [InlineData("/a$HOME", "/a$HOME")]
    [InlineData("# nothing", null)]
    public void Values_of_env_files(string written, string? expected)
    {
        _folder.Write(".env", $"KV_CACHE_PERSISTENCE_PATH={written}\n");
        Assert.Equal(expected, Load(".env").Config.Persistence.PersistencePath);
    }

    [Fact]
    public void A_block_in_quotes_of_another_program_declares_nothing_of_ours()
    {
        _folder.Write(".env", "NOTE=\"first\nKV_CACHE_MAX_TOKENS=1\nlast\"\nKV_CACHE_MAX_TOKENS=9\n");
        Assert.Equal(9, Load(".env").Config.MaxTokens);
    }

    [Theory]
    [InlineData("kv_cache:\n  max_token: 5\n", "{f}:2: max_token: not a key; did you mean max_tokens?")]
    [InlineData("kv_cache:\n  colour: blue\n", "{f}:2: colour: not a key; it is kept and has no effect")]
    [InlineData("kv_cash:\n  max_tokens: 5\n", "{f}:1: kv_cash: not a key; did you mean kv_cache?")]
    [InlineData("max_tokens: 5\n", "{f}:1: max_tokens: not a key; max_tokens belongs under kv_cache")]
    [InlineData("logging: {level: debug}\n", "{f}:1: logging: not a key; it is kept and has no effect")]
    public void Unknown_keys_are_warned_of_with_the_nearest_name(string text, string warning)
    {
        string file = _folder.Write("c.yaml", text);
        KvConfiguration loaded = Load("c.yaml");
        Assert.Equal([warning.Replace("{f}", file, StringComparison.Ordinal)], loaded.Warnings);
        Assert.Equal(4096, loaded.Config.MaxTokens);
    }

    [Fact]
    public void Version_1_loads_as_its_migration()
    {
        string file = _folder.Write("c.json", "{\n  \"kv_cache_size\": 2048,\n  \"kv_cache_strategy\": \"lru\"\n}\n");
        string before = _folder.Hash("c.json");
        KvConfiguration loaded = Load("c.json");
        Assert.Equal(
            "max_tokens 2048, cache_strategy lru, enable_persistence true, persistence_path /data/cache, use_compression true, compression_ratio 0.3, head_dim 64",
            string.Join(", ", new[] { "max_tokens", "cache_strategy", "enable_persistence", "persistence_path", "use_compression", "compression_ratio", "head_dim" }
                .Select(key => $"{key} {loaded[key].Value}")));
        Assert.Equal(
            ($"{file}:2", $"{file}:3", $"migration of {file}"), ($"{loaded["max_tokens"].Origin}", $"{loaded["cache_strategy"].Origin}", $"{loaded["persistence_path"].Origin}"));
        Assert.Contains(loaded.Warnings, w => w.Contains("lossy", StringComparison.Ordinal));
        Assert.Contains($"{file}: of version 1, read as its migration; kvcache config migrate writes it so", loaded.Warnings);
        Assert.Equal(before, _folder.Hash("c.json"));
    }

    [Theory]
    [InlineData("c.json", "{\n\n\"kv_cache_size\": 7,\n\n\"logging\": 1,\n\"kv_cache\": {\n\"block_size\": 32,\n\"max_token\": 5\n}}")]
    [InlineData("c.yaml", "\n\nkv_cache_size: 7\n\nlogging: 1\nkv_cache:\n  block_size: 32\n  max_token: 5\n")]
    public void A_file_of_version_1_is_warned_of_by_its_own_lines(string name, string text)
    {
        string file = _folder.Write(name, text);
        KvConfiguration loaded = Load(name);
        Assert.Contains($"{file}:5: logging: not a key; it is kept and has no effect", loaded.Warnings);
        Assert.Contains($"{file}:8: max_token: not a key; did you mean max_tokens?", loaded.Warnings);
        Assert.Equal(($"{file}:3", $"{file}:7"), ($"{loaded["max_tokens"].Origin}", $"{loaded["block_size"].Origin}"));
        _folder.Write(name, text.Replace("32", "33", StringComparison.Ordinal));
        Assert.StartsWith($"E003: {file}:7: block_size: ", Assert.Throws<KvConfigurationException>(() => Load(name)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("c.yaml")]
    [InlineData(".env")]
    public void A_named_pipe_is_refused_at_once(string name)
    {
        using Process made = Process.Start("mkfifo", _folder[name]);
        made.WaitForExit();
        Assert.Equal($"E003: {_folder[name]}: expected a regular file, got a named pipe", Assert.Throws<KvConfigurationException>(() => Load(name)).Message);
    }

    [Fact]
    public void The_files_of_the_old_scripts_are_found_behind_our_own()
    {
        string config = Path.Combine(_folder.Root, "config");
        Directory.CreateDirectory(config);
        string[] names = ["old_config.json", "new_config.json", "kv_cache.json", "kv_cache.yaml"];
        foreach (string name in names)
        {
            File.WriteAllText(Path.Combine(config, name), string.Empty);
            Assert.Equal($"config/{name}", KvConfigLocation.Find(env: _folder[".env"]).File);
        }
    }

    [Fact]
    public void Variables_of_version_1_load_as_their_migration()
    {
        string env = _folder.Write(".env", "OTHER=1\nKV_CACHE_SIZE=2048\nKV_CACHE_STRATEGY=lru\n");
        KvConfiguration loaded = Load(".env");
        Assert.Equal(("2048", $"{env}:2"), (loaded["max_tokens"].Value, $"{loaded["max_tokens"].Origin}"));
        Assert.Equal(("lru", $"{env}:3"), (loaded["cache_strategy"].Value, $"{loaded["cache_strategy"].Origin}"));
        Assert.Equal(("/data/cache", $"migration of {env}"), (loaded["persistence_path"].Value, $"{loaded["persistence_path"].Origin}"));
        KvConfiguration process = KvConfiguration.Load(new KvConfigurationSources { Environment = new Dictionary<string, string> { ["KV_CACHE_SIZE"] = "2048" } });
        Assert.Equal((2048, false), (process.Config.MaxTokens, process.Config.Persistence.EnablePersistence));
        Assert.Equal(["variable KV_CACHE_SIZE: of version 1, read as KV_CACHE_MAX_TOKENS"], process.Warnings);
    }

    [Fact]
    public void A_file_of_version_2_0_loads_with_what_2_1_has_besides()
    {
        _folder.Write("c.yaml", "kv_cache:\n  max_tokens: 4096\n  block_size: 128\n");
        KvConfiguration loaded = Load("c.yaml");
        Assert.Equal((128, true, 8), (loaded.Config.Model.BlockSize, loaded.Config.Prefetch.EnablePrefetch, loaded.Config.Prefetch.PrefetchSize));
    }

    private KvConfiguration Load(string name) => name == ".env"
        ? KvConfiguration.Load(new KvConfigurationSources { EnvFile = _folder[name], Environment = Folder.NoVariables })
        : _folder.Load(name);
}
