using System.Security.Cryptography;
using System.Text.Json;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli.Tests;

/// <summary><c>config show | validate | generate</c>, <c>doctor</c> and <c>run --config</c>, from real files.</summary>
public sealed class ConfigTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("kvcache-cli-config-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Show_tells_every_keys_value_and_origin()
    {
        string file = Write("c.yaml", "preset: bulk_processing\nkv_cache:\n  gc_threshold: 0.7\n  persistence_path: /x\n  colour: blue\n");
        string env = Write(".env", "KV_CACHE_PREFETCH_SIZE=9\n");
        JsonElement shown = Schema.Check(Tool.Json("config", "show", "--file", file, "--env", env), "preset string?, enabled bool, settings array, warnings array");
        Dictionary<string, string> settings = [];
        foreach (JsonElement setting in shown.GetProperty("settings").EnumerateArray())
        {
            Assert.Equal(["key", "value", "origin", "source"], setting.EnumerateObject().Select(p => p.Name));
            settings.Add(setting.Text("key")!, $"{setting.GetProperty("value").GetRawText()} {setting.Text("origin")} {setting.Text("source")}");
        }

        Assert.Equal(KvConfigurationKeys.All.Select(key => key.Name), settings.Keys);
        Assert.Equal(
            [$"0.7 {file}:3 file", $"\"/x\" {file}:4 file", $"9 {env}:1 env_file", "\"bulk\" preset bulk_processing preset", "null default default", "8 default default"],
            new[] { "gc_threshold", "persistence_path", "prefetch_size", "cache_mode", "max_memory_mb", "num_heads" }.Select(key => settings[key]));
        Tool table = Tool.Run("config", "show", "--file", file, "--env", env, "--preset", "development");
        Assert.Equal((0, $"warning: {file}:5: colour: not a key; it is kept and has no effect{Environment.NewLine}"), (table.Exit, table.Error));
        Assert.Matches($@"\| gc_threshold +\| 0\.7 +\| {file}:3 +\|", table.Output);
        Assert.Matches(@"\| max_tokens +\| 1024 +\| preset development +\|", table.Output);
    }

    [Theory]
    [InlineData("bad.yaml", "kv_cache:\n  max_tokens: &a 1\n", "E003", "2: max_tokens: ")]
    [InlineData("bad.json", "{\"kv_cache\": {\n\"gc_threshold\": 2}}", "E003", "2: gc_threshold: ")]
    [InlineData("bad.json", "{\"kv_cache\": {\n\"max_tokens\": 1,\n\"max_tokens\": 1}}", "E003", "3: max_tokens: ")]
    [InlineData("new.yaml", "kv_cache:\n  max_tokens: 1\nversion: 3.0\n", "E007", "3: version: ")]
    public void What_is_malformed_is_one_line_exit_2_and_stays(string name, string text, string code, string where)
    {
        string file = Write(name, text), before = Hash(file);
        foreach (string[] command in new string[][] { ["config", "show", "--file"], ["config", "validate", "--file"], ["run", "--prompt", "a", "--config"] })
        {
            Assert.Contains($"{file}:{where}", Tool.Refused(2, code, [.. command, file]), StringComparison.Ordinal);
        }

        Assert.Equal(before, Hash(file));
    }

    [Fact]
    public void Validate_says_what_is_valid_and_what_to_know()
    {
        string file = Write("c.yaml", "kv_cache:\n  max_token: 5\n  compression_ratio: 0.05\n");
        JsonElement report = Schema.Check(
            Tool.Json("config", "validate", "--file", file), "file string, env_file string?, preset string?, valid bool, error string?, warnings array");
        Assert.True(report.GetProperty("valid").GetBoolean());
        string[] warnings = [.. report.GetProperty("warnings").EnumerateArray().Select(w => w.GetString()!)];
        Assert.Equal($"{file}:2: max_token: not a key; did you mean max_tokens?", warnings[0]);
        Assert.Contains("compression_ratio: below 0.1 answers get worse", warnings);
        Tool plain = Tool.Run("config", "validate", "--file", file);
        Assert.Equal((0, string.Empty), (plain.Exit, plain.Error));
        Assert.StartsWith($"{file}: valid, {warnings.Length} warnings", plain.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("yaml")]
    [InlineData("json")]
    [InlineData("env")]
    public void Generate_prints_what_loads_back_to_the_same(string format)
    {
        Tool printed = Tool.Run("config", "generate", "--preset", "memory_efficient", "--format", format);
        Assert.Equal((0, string.Empty), (printed.Exit, printed.Error));
        Assert.Equal(printed.Output, Tool.Run("config", "--generate", "--preset", "memory_efficient", "--format", format).Output);
        string file = Path.Combine(_root, $"c.{format}");
        Assert.Equal(0, Tool.Run("config", "generate", "--preset", "memory_efficient", "--file", file).Exit);
        Assert.Equal(printed.Output, File.ReadAllText(file));
        JsonElement shown = Tool.Json("config", "show", format == "env" ? "--env" : "--file", file);
        Assert.Equal(
            KvConfiguration.Load(new KvConfigurationSources { Preset = "memory_efficient", Environment = new Dictionary<string, string>() }).Settings.Select(s => s.Value),
            shown.GetProperty("settings").EnumerateArray().Select(s => s.GetProperty("value")).Select(v => v.ValueKind == JsonValueKind.Null ? null : v.ToString().Replace("True", "true", StringComparison.Ordinal).Replace("False", "false", StringComparison.Ordinal)));
    }

    [Fact]
    public void Usage_that_is_wrong_is_refused_and_nothing_is_written()
    {
        string file = Write("c.yaml", "kv_cache: {}\n"), before = Hash(file);
        Assert.Contains("which is there", Tool.Refused(2, "E003", "config", "generate", "--file", file), StringComparison.Ordinal);
        Tool.Refused(2, "E003", "config", "generate", "--file", Path.Combine(_root, "c.txt"));
        Tool.Refused(2, "E003", "config", "generate", "--preset", "fast");
        Tool.Refused(2, "E003", "config");
        Tool.Refused(2, "E002", "config", "show", "--file", Path.Combine(_root, "none.yaml"));
        Tool.Refused(2, "E002", "config", "validate", "--env", Path.Combine(_root, "none.env"));
        Tool.Refused(2, "E002", "run", "--prompt", "a", "--config", Path.Combine(_root, "none.yaml"));
        Assert.Equal(before, Hash(file));
        Assert.Equal(["c.yaml"], Directory.EnumerateFiles(_root).Select(Path.GetFileName));
    }

    [Fact]
    public void Run_uses_the_configuration_and_options_win_over_it()
    {
        string quantized = Write("q.yaml", "kv_cache:\n  cache_strategy: quantized\n  quantization_bits: 8\n");
        string off = Write("off.yaml", "kv_cache:\n  enabled: false\n  cache_strategy: quantized\n  quantization_bits: 8\n");
        string small = Write("small.yaml", "kv_cache:\n  max_tokens: 20\n");
        Assert.Equal("i8/i8", SealedFormats("--config", quantized));
        Assert.Equal("t4/v4", SealedFormats("--config", quantized, "--key-format", "t4"));
        Assert.Equal(SealedFormats(), SealedFormats("--config", off));
        Assert.Contains("small.yaml:2: max_tokens: expected at least the ", Tool.Refused(2, "E003", [.. Run("--config", small)]), StringComparison.Ordinal);
    }

    private static string[] Run(params string[] more) =>
        ["run", "--device", "cpu", "--prompt-tokens", string.Join(',', Enumerable.Range(1, 200)), "--max-new-tokens", "2", .. more];

    // Formats of full pages, "key/value" of each pair that there is.
    private static string SealedFormats(params string[] more) => string.Join(' ', Tool.Json(Run(more)).GetProperty("cache").GetProperty("pages").GetProperty("formats")
        .EnumerateArray().Where(f => f.Long("sealed") > 0).Select(f => $"{f.Text("key_format")}/{f.Text("value_format")}"));

    private string Write(string name, string text)
    {
        string path = Path.Combine(_root, name);
        File.WriteAllText(path, text);
        return path;
    }

    private static string Hash(string path) => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path)));
}
