using System.Text;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>What is malformed is refused with file, line and key, and is left as it is.</summary>
public sealed class MalformedTests : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("{\"kv_cache\": {\n\"max_tokens\" 1}}", "2: kv_cache: expected JSON, got ")]
    [InlineData("{\"kv_cache\": {\"max_tokens\": 1}", "1: max_tokens: expected JSON, got ")]
    [InlineData("{\"kv_cache\": {}} {}", "1: kv_cache: expected JSON, got ")]
    [InlineData("", "1: expected JSON, got ")]
    [InlineData("[1]", "1: expected keys, with kv_cache among them, got another value")]
    [InlineData("{\"kv_cache\": 3}", "1: kv_cache: expected keys beneath it, got another value")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": \"4096\"}}", "3: max_tokens: expected a whole number, 1 or more, got the text \"4096\"")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": 4096.5}}", "3: max_tokens: expected a whole number, 1 or more, got 4096.5")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": 1e300}}", "3: max_tokens: expected a whole number, 1 or more, got 1e300")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": 99999999999}}", "3: max_tokens: expected a whole number, 1 or more, got 99999999999")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": [1]}}", "3: max_tokens: expected a whole number, 1 or more, got a sequence")]
    [InlineData("{\n\"kv_cache\": {\n\"max_tokens\": null}}", "3: max_tokens: expected a whole number, 1 or more, got nothing")]
    [InlineData("{\n\"kv_cache\": {\n\"gc_threshold\": NaN}}", "3: gc_threshold: expected JSON, got ")]
    [InlineData("{\n\"kv_cache\": {\n\"gc_threshold\": 1e999}}", "3: gc_threshold: expected a number above 0 and at most 1, got 1e999")]
    [InlineData("{\n\"kv_cache\": {\n\"use_compression\": \"yes\"}}", "3: use_compression: expected true or false, got the text \"yes\"")]
    [InlineData("{\n\"kv_cache\": {\n\"cache_strategy\": 3}}", "3: cache_strategy: expected one of adaptive, lru, lfu, paged, compressed, quantized, got 3")]
    [InlineData("{\n\"kv_cache\": {\n\"block_size\": 48}}", "3: block_size: expected one of 16, 32, 64, 128, 256, got 48")]
    [InlineData("{\"kv_cache\": {\n\"max_tokens\": 1,\n\"max_tokens\": 2}}", "3: max_tokens: expected each key once, got it again after line 2")]
    [InlineData("{\"kv_cache\": {\n\"max_tokens\": 1,\n\"MAX_TOKENS\": 2}}", "3: MAX_TOKENS: expected each key once, got it again after line 2")]
    [InlineData("{\"kv_cache\": {},\n\"kv_cache\": {}}", "2: kv_cache: expected each key once, got it again after line 1")]
    [InlineData("{\"x\": \"\\ud800\"}", "1: x: expected JSON, got an escape that is no character")]
    [InlineData("{\"preset\": \"fast\"}", "1: preset: expected one of development, production, high_performance, memory_efficient, bulk_processing, got \"fast\"")]
    [InlineData("{\"kv_cache\": {\n\"enable_persistence\": true}}", "2: enable_persistence", true)]
    [InlineData("{\"kv_cache\": {\n\"cache_mode\": \"training\"}}", "2: cache_mode: expected another mode: a KV cache keeps no gradients, got training")]
    public void Json(string text, string expected, bool isOfAnotherKey = false) =>
        Refused("c.json", Encoding.UTF8.GetBytes(text), isOfAnotherKey ? "persistence_path: expected a directory, with enable_persistence" : "{file}:" + expected);

    [Theory]
    [InlineData("kv_cache:\n  max_tokens: 1\n bad", "3: max_tokens: expected YAML, got ")]
    [InlineData("kv_cache:\n\tmax_tokens: 1", "1: expected YAML, got While scanning a mapping, found invalid tab")]
    [InlineData("kv_cache: {max_tokens: 1", "2: kv_cache: expected YAML, got ")]
    [InlineData("kv_cache: &a\n  max_tokens: 1", "1: kv_cache: expected plain YAML without anchors, aliases and tags, got an anchor")]
    [InlineData("kv_cache:\n  max_tokens: &a 1", "2: max_tokens: expected plain YAML without anchors, aliases and tags, got an anchor")]
    [InlineData("kv_cache:\n  max_tokens: *a", "2: max_tokens: expected plain YAML without anchors, aliases and tags, got an alias")]
    [InlineData("kv_cache:\n  max_tokens: !!int 1", "2: max_tokens: expected plain YAML without anchors, aliases and tags, got a tag")]
    [InlineData("kv_cache: !foo\n  max_tokens: 1", "1: kv_cache: expected plain YAML without anchors, aliases and tags, got a tag")]
    [InlineData("kv_cache:\n  max_tokens: .nan", "2: max_tokens: expected a whole number, 1 or more, got .nan")]
    [InlineData("kv_cache:\n  gc_threshold: .nan", "2: gc_threshold: expected a number above 0 and at most 1, got .nan")]
    [InlineData("kv_cache:\n  gc_threshold: NaN", "2: gc_threshold: expected a number above 0 and at most 1, got NaN")]
    [InlineData("kv_cache:\n  gc_threshold: '0.5'", "2: gc_threshold: expected a number above 0 and at most 1, got the text \"0.5\"")]
    [InlineData("kv_cache:\n  use_compression: yes", "2: use_compression: expected true or false, got yes")]
    [InlineData("kv_cache:\n  max_tokens: 1\n  max_tokens: 2", "3: max_tokens: expected each key once, got it again after line 2")]
    [InlineData("kv_cache:\n  max_tokens:\n    a: 1", "2: max_tokens: expected a whole number, 1 or more, got a mapping")]
    [InlineData("kv_cache:\n  block_size: 020", "2: block_size: expected one of 16, 32, 64, 128, 256, got 020")]
    [InlineData("kv_cache:\n  max_tokens: -07", "2: max_tokens: expected a whole number, 1 or more, got -07")]
    [InlineData("kv_cache:\n  gc_threshold: 00.5", "2: gc_threshold: expected a number above 0 and at most 1, got 00.5")]
    [InlineData("a: 1\n---\nb: 2", "2: expected one document, got a second one")]
    [InlineData("? [a]\n: 1", "1: expected plain YAML without anchors, aliases and tags, got a key that is no text")]
    [InlineData("- 1", "1: expected keys, with kv_cache among them, got another value")]
    [InlineData("kv_cache:\n  <<: 1", "2: <<: expected plain YAML without anchors, aliases and tags, got a merge")]
    [InlineData("a:\n  b: 1\n  :", "4: null: expected YAML, got something else")]
    [InlineData("...\n    b: 1\n[", "1: expected YAML, got something else")]
    [InlineData("version: abc", "1: version: expected a version, 2.1 or older, got \"abc\"")]
    public void Yaml(string text, string expected) => Refused("c.yaml", Encoding.UTF8.GetBytes(text), "{file}:" + expected);

    [Theory]
    [InlineData("A=1\nKV_CACHE_MAX_TOKENS", "2: KV_CACHE_MAX_TOKENS: expected NAME=value, got \"KV_CACHE_MAX_TOKENS\"")]
    [InlineData("KV_CACHE_MAX_TOKENS=12x", "1: KV_CACHE_MAX_TOKENS: expected a whole number, 1 or more, got 12x")]
    [InlineData("KV_CACHE_GC_THRESHOLD=NaN", "1: KV_CACHE_GC_THRESHOLD: expected a number above 0 and at most 1, got NaN")]
    [InlineData("KV_CACHE_MAX_TOKENS=1\n\nKV_CACHE_MAX_TOKENS=2", "3: KV_CACHE_MAX_TOKENS: expected each variable once, got it again after line 1")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=\"/x", "1: KV_CACHE_PERSISTENCE_PATH: expected a closing quote, got the line's end")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH='/x' y", "1: KV_CACHE_PERSISTENCE_PATH: expected nothing after the closing quote, got \"y\"")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=\"\\q\"", "1: KV_CACHE_PERSISTENCE_PATH: expected \\n, \\r, \\t, \\\", \\\\ or \\$, got \\q")]
    [InlineData("KV_CACHE_PRESET=fast", "1: KV_CACHE_PRESET: expected one of ")]
    public void DotEnv(string text, string expected) => Refused(".env", Encoding.UTF8.GetBytes(text), "{file}:" + expected);

    [Fact]
    public void Bytes_that_are_no_UTF8_are_refused_by_line()
    {
        foreach (string name in new[] { "c.json", "c.yaml", ".env" })
        {
            Refused(name, [.. "# a\n# b\n"u8, 0xFF, 0xFE], "{file}:3: expected UTF-8, got ");
            Refused(name, [0xFF, 0xFE, .. "k\0v\0"u8], "{file}:1: expected UTF-8, got ");
        }
    }

    [Fact]
    public void Files_that_never_end_are_refused()
    {
        Refused("c.yaml", Encoding.UTF8.GetBytes(new string('#', TextFile.MostBytes + 1)), "{file}: expected a configuration of at most 1048576 bytes, got more");
        Refused("c.yaml", Encoding.UTF8.GetBytes("a: " + new string('[', 1000)), "expected at most 32 levels, got more");
        Refused("c.json", Encoding.UTF8.GetBytes("{\"a\": " + new string('[', 1000)), "{file}:1: a: expected JSON, got ");
    }

    [Theory]
    [InlineData("c.yaml", "a: 1\nversion: 2.2", 2, "version")]
    [InlineData("c.yaml", "kv_cache:\n  schema_version: 3", 2, "schema_version")]
    [InlineData("c.json", "{\n\n\"version\": \"10.0\"}", 3, "version")]
    [InlineData(".env", "\nKV_CACHE_VERSION=3", 2, "KV_CACHE_VERSION")]
    public void A_newer_schema_is_E007(string name, string text, int line, string key)
    {
        _folder.Write(name, text);
        string before = _folder.Hash(name);
        KvNewerVersionException error = Assert.Throws<KvNewerVersionException>(() => KvConfiguration.Load(Sources(name)));
        Assert.StartsWith($"E007: {_folder[name]}:{line}: {key}: ", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, _folder.Hash(name));
    }

    [Fact]
    public void A_wrong_value_is_refused_also_where_a_stronger_source_has_a_right_one()
    {
        _folder.Write("c.yaml", "kv_cache:\n  max_tokens: many");
        KvConfigurationSources sources = Sources("c.yaml") with { Environment = new Dictionary<string, string> { ["KV_CACHE_MAX_TOKENS"] = "4" } };
        Assert.Throws<KvConfigurationException>(() => KvConfiguration.Load(sources));
    }

    [Fact]
    public void What_code_sets_is_checked()
    {
        KvConfigurationSources sources = new() { Environment = Folder.NoVariables, Configure = config => config.Memory.GcThreshold = double.NaN };
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => KvConfiguration.Load(sources));
        Assert.StartsWith("E003: code: gc_threshold: ", error.Message, StringComparison.Ordinal);
    }

    private void Refused(string name, byte[] bytes, string expected)
    {
        _folder.Write(name, bytes);
        string before = _folder.Hash(name);
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => KvConfiguration.Load(Sources(name)));
        Assert.True(error.Message.Contains(expected.Replace("{file}", _folder[name], StringComparison.Ordinal), StringComparison.Ordinal), error.Message);
        Assert.StartsWith("E003: ", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, _folder.Hash(name));
    }

    private KvConfigurationSources Sources(string name) => name == ".env"
        ? new KvConfigurationSources { EnvFile = _folder[name], Environment = Folder.NoVariables }
        : new KvConfigurationSources { File = _folder[name], Environment = Folder.NoVariables };
}
