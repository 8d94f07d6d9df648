using CsCheck;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>What is written loads back to the same configuration, and is then written the same.</summary>
public sealed class RoundTripTests : IDisposable
{
    private static readonly string[] _names = ["c.yaml", "c.json", "c.env"];

    private static readonly Gen<string> _path = Gen.OneOf(
        Gen.Char['!', '~'].Array[1, 12].Select(c => new string(c)),
        OneOf("é", "\u0085", "\u2028", "\u2029", "\ufeff", "\u007f", "\t", "\r", "\n", " ", "\"", "\\", "'", "#", "$", ":", "\ud83d\ude00", "\u0001", "a")
            .Array[1, 8].Select(parts => "/" + string.Concat(parts)));

    private static readonly Gen<Dictionary<string, string>> _values = Values();

    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Generated_configurations_survive_saving_and_loading_in_each_format() =>
        _values.Sample(
            values =>
            {
                KvConfiguration first = KvConfiguration.Load(new KvConfigurationSources { Environment = values });
                Assert.All(first.Settings, s => Assert.Equal(KvSettingSource.Environment, s.Origin.Source));
                foreach (string name in _names)
                {
                    first.Save(_folder[name]);
                    string written = _folder.Hash(name);
                    KvConfiguration second = Load(name);
                    Assert.Equal(first.Settings.Select(s => (s.Key, s.Value)), second.Settings.Select(s => (s.Key, s.Value)));
                    Assert.Equal($"{first.Config}", $"{second.Config}");
                    Assert.Empty(second.Warnings);
                    second.Save(_folder[name]);
                    Assert.Equal(written, _folder.Hash(name));
                }
            },
            iter: 150,
            threads: 1);

    [Theory]
    [InlineData(null)]
    [InlineData("production")]
    [InlineData("bulk_processing")]
    public void A_generated_file_names_every_key_with_its_default_and_loads_back(string? preset)
    {
        KvConfiguration generated = KvConfiguration.Load(new KvConfigurationSources { Preset = preset, Environment = Folder.NoVariables });
        foreach (string name in _names)
        {
            generated.Save(_folder[name]);
            string text = File.ReadAllText(_folder[name]);
            foreach (KvConfigurationKey key in KvConfigurationKeys.All)
            {
                Assert.Contains($"{key.Meaning}: {key.Allowed}. Default: {key.Default ?? "nothing"}.", text, StringComparison.Ordinal);
            }

            KvConfiguration loaded = Load(name);
            Assert.Equal($"{generated.Config}", $"{loaded.Config}");
            Assert.Equal(preset, loaded.Preset);
            Assert.DoesNotContain(loaded.Settings, s => s.Origin.Source is KvSettingSource.Default or KvSettingSource.Preset);
        }
    }

    [Theory]
    [InlineData("c.json", "{\"logging\": {\"a\": [1, \"x\", null, true], \"b\": {}}, \"kv_cache\": {\"colour\": \"7\", \"depth\": 7}}")]
    [InlineData("c.yaml", "logging:\n  a: [1, x, null, 'true']\n  b: {}\nkv_cache:\n  colour: '7'\n  depth: 7\n  plain: a - b\n")]
    public void Keys_that_nobody_knows_are_kept(string name, string text)
    {
        _folder.Write(name, text);
        KvConfiguration first = Load(name);
        first.Save(_folder[name]);
        string[] leaves = [.. Leaves(first.Unknown)];
        Assert.NotEmpty(leaves);
        Assert.Equal(leaves, Leaves(Load(name).Unknown));
    }

    [Fact]
    public void Every_key_has_a_generator_here() => Assert.Equal(
        KvConfigurationKeys.All.Select(key => key.Variable).Order(StringComparer.Ordinal), _values.Single().Keys.Order(StringComparer.Ordinal));

    private static IEnumerable<string> Leaves(UnknownMembers unknown) =>
        unknown.InSection.Select(m => $"in {Leaf(m)}").Concat(unknown.Beside.Select(m => $"beside {Leaf(m)}"));

    private static string Leaf(ConfigMember member) =>
        $"{member.Name}={member.Node.Kind} {member.Node.Text}({string.Join(' ', member.Node.Members.Select(Leaf))})";

    // Every key has a value that it takes; what depends on another is made to fit.
    private static Gen<Dictionary<string, string>> Values()
    {
        Gen<Dictionary<string, string>> values = Gen.Const(0).Select(_ => new Dictionary<string, string>());
        foreach (KvConfigurationKey key in KvConfigurationKeys.All)
        {
            values = values.Select(ValueOf(key), (all, value) => new Dictionary<string, string>(all) { [key.Variable] = value });
        }

        return values.Select(all =>
        {
            all["KV_CACHE_CACHE_MODE"] = all["KV_CACHE_CACHE_MODE"].Replace("training", "streaming", StringComparison.Ordinal);
            all["KV_CACHE_DISTRIBUTED_BACKEND"] = all["KV_CACHE_ENABLE_DISTRIBUTED"] == "true" ? "redis" : all["KV_CACHE_DISTRIBUTED_BACKEND"];
            all["KV_CACHE_ENABLE_PERSISTENCE"] = all["KV_CACHE_PERSISTENCE_PATH"].Length == 0 ? "false" : all["KV_CACHE_ENABLE_PERSISTENCE"];
            return all;
        });
    }

    private static Gen<string> ValueOf(KvConfigurationKey key) => key switch
    {
        { Name: "persistence_path" } => Gen.OneOf(Gen.Const(string.Empty), _path, _path),
        { Allowed: "true or false" } => Gen.Bool.Select(b => b ? "true" : "false"),
        { Default: "0.3" or "0.8" } => Gen.Double[double.Epsilon, 1].Select(d => $"{d:R}"),
        { Default: null } => Gen.OneOf(Gen.Const(string.Empty), Gen.Int[100, 1 << 20].Select(i => $"{i}")),
        _ when key.Allowed.StartsWith("one of ", StringComparison.Ordinal) => OneOf(key.Allowed["one of ".Length..].Split(", ")),
        // Widths that every format takes; tables that fit.
        { Name: "head_dim" } => Gen.Int[1, 18].Select(i => $"{i * 32}"),
        { Name: "num_heads" } => Gen.Int[1, 16].Select(i => $"{i}"),
        { Name: "max_tokens" or "warmup_samples" } => Gen.Int[1, 1 << 16].Select(i => $"{i}"),
        _ => Gen.Int[1, 64].Select(i => $"{i}"),
    };

    private static Gen<string> OneOf(params string[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private KvConfiguration Load(string name) => KvConfiguration.Load(name == "c.env"
        ? new KvConfigurationSources { EnvFile = _folder[name], Environment = Folder.NoVariables }
        : new KvConfigurationSources { File = _folder[name], Environment = Folder.NoVariables });
}
