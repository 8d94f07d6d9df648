using System.Text.RegularExpressions;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>The table of keys: docs/configuration.md shows it, row by row, and it names options that there are.</summary>
public partial class KeyTableTests
{
    [Fact]
    public void The_document_shows_every_row()
    {
        string[] rows =
        [
            "| key | default | allowed | meaning | sets |",
            "|---|---|---|---|---|",
            .. KvConfigurationKeys.All.Select(key => $"| {key.Name}{(key.IsLive ? " *" : string.Empty)} | {key.Default ?? "nothing"} | {key.Allowed} | {key.Meaning} | {key.Sets} |"),
        ];
        string document = File.ReadAllText(Path.Combine(Root(), "docs", "configuration.md"));
        Assert.True(document.Contains(string.Join('\n', rows), StringComparison.Ordinal), $"docs/configuration.md should have:\n{string.Join('\n', rows)}");
    }

    [Fact]
    public void What_a_key_sets_is_there()
    {
        foreach (Match option in KvConfigurationKeys.All.SelectMany(key => Option().Matches(key.Sets)))
        {
            Assert.NotNull(typeof(KvCacheOptions).GetProperty(option.Groups[1].Value));
        }
    }

    [Fact]
    public void A_key_without_effect_says_so_when_it_is_on()
    {
        var config = new KvCacheConfig { Distributed = { EnableDistributed = true, DistributedBackend = KvDistributedBackend.Redis } };
        string warnings = string.Join('\n', config.Validate().Warnings.Where(warning => warning.Text.StartsWith("inactive", StringComparison.Ordinal)));
        foreach (KvConfigurationKey key in KvConfigurationKeys.All.Where(key => key.Sets == "inactive" && key.Name != "distributed_backend"))
        {
            Assert.Contains(key.Name, warnings, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Every_row_reads_what_it_writes()
    {
        foreach (KvConfigurationKey key in KvConfigurationKeys.All)
        {
            string other = new[] { "false", "true", "0.5", "17", "128", "4", "lru", "bulk", "t4", "float32", "redis", "/there" }
                .First(value => value != key.Default && key.TryParse(value, isVariable: false, out _));
            var config = new KvCacheConfig();
            key.Write(config, other);
            Assert.Equal(other, key.Read(config));
            Assert.Equal([key.Name], KvConfigurationKeys.All.Where(one => one.Read(config) != one.Default).Select(one => one.Name));
            Assert.Equal(key.Name, Assert.Throws<KvConfigurationException>(() => key.Write(config, "\0")).Setting);
        }
    }

    internal static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }

    [GeneratedRegex("`([A-Za-z]+)`")]
    private static partial Regex Option();
}
