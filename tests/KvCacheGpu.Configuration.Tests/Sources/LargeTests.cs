using System.Globalization;
using System.Text;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>A file of a megabyte is small: what is read of it must be so too.</summary>
public sealed class LargeTests : IDisposable
{
    private const long MostBytes = 48 << 20;

    private readonly Folder _folder = new();

    public static TheoryData<string> Names => ["c.yaml", "c.json", ".env", "flow.yaml", "list.json"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Names))]
    public void A_megabyte_of_keys_that_nobody_knows_is_refused_in_little_memory(string name)
    {
        _folder.Write(name, Text(name, (1 << 20) - 64));
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => Load(name));
        Assert.Equal(("E003", "at most 10000 values in a configuration"), (refused.Code, refused.Expected));
        Assert.Contains(_folder[name] + ":", refused.Message, StringComparison.Ordinal);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<KvConfigurationException>(() => Load(name));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, MostBytes);
    }

    [Theory]
    [InlineData("c.yaml")]
    [InlineData("c.json")]
    public void A_migration_refuses_it_too(string name)
    {
        _folder.Write(name, Text(name, (1 << 20) - 64));
        KvCacheConfigManager manager = new(new KvConfigLocation(_folder.Root, name, ".env"));
        Assert.Throws<KvConfigurationException>(() => manager.DetectOldFormat());
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<KvConfigurationException>(() => manager.DetectOldFormat());
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, MostBytes);
    }

    [Theory]
    [InlineData("c.yaml")]
    [InlineData("c.json")]
    public void A_long_name_is_not_said_again_for_each_value_beneath_it(string name)
    {
        string key = new('k', 600_000);
        string list = string.Join(", ", Enumerable.Range(0, 9_000));
        _folder.Write(name, name.EndsWith("json", StringComparison.Ordinal) ? $"{{\"{key}\": [{list}]}}" : $"{key.AsSpan(0, 1000)}: [{list}]\n");
        Load(name);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Single(Load(name).Warnings);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, MostBytes);
    }

    [Fact]
    public void An_edit_of_version_1_takes_no_path_for_each_value()
    {
        string list = string.Concat(Enumerable.Range(0, 9_000).Select(i => string.Create(CultureInfo.InvariantCulture, $"    - {i}\n")));
        _folder.Write("c.yaml", $"kv_cache_size: 512\n{new string('a', 900)}:\n  {new string('b', 900)}:\n{list}");
        KvCacheConfigManager manager = new(new KvConfigLocation(_folder.Root, "c.yaml", ".env"));
        manager.MigrateToNewFormat(dryRun: true);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Single(manager.MigrateToNewFormat(dryRun: true).Files);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, MostBytes);
    }

    [Fact]
    public void An_edit_tells_a_name_with_a_slash_from_two_names()
    {
        _folder.Write("c.yaml", "kv_cache_size: 512\nx/y: 1\nx:\n  y: 1\n");
        KvCacheConfigManager manager = new(new KvConfigLocation(_folder.Root, "c.yaml", ".env"));
        manager.MigrateToNewFormat();
        Assert.Equal(512, _folder.Load("c.yaml").Config.MaxTokens);
        Assert.EndsWith("x/y: 1\nx:\n  y: 1\n", File.ReadAllText(_folder["c.yaml"]), StringComparison.Ordinal);
    }

    private KvConfiguration Load(string name) => name == ".env"
        ? KvConfiguration.Load(new KvConfigurationSources { EnvFile = _folder[name], Environment = Folder.NoVariables })
        : _folder.Load(name);

    private static string Text(string name, int length)
    {
        StringBuilder text = new(name switch { "c.json" => "{\"first\": 0", "list.json" => "{\"a\": [0", "flow.yaml" => "a: [0", _ => string.Empty });
        for (int i = 0; text.Length < length; i++)
        {
            string number = i.ToString("x", CultureInfo.InvariantCulture);
            text.Append(name switch
            {
                "c.json" => $",\n\"{number}\":0",
                "c.yaml" => $"k{number}: 0\n",
                ".env" => $"KV_CACHE_{number}=0\n",
                "flow.yaml" => $",\n {number}",
                _ => $",{i}",
            });
        }

        return text.Append(name switch { "c.json" => "}", "list.json" => "]}", "flow.yaml" => "]\n", _ => string.Empty }).ToString();
    }
}
