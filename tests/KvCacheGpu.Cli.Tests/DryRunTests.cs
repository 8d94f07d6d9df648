using System.Text.Json.Nodes;
using KvCacheGpu.Import.Tests;

namespace KvCacheGpu.Cli.Tests;

/// <summary>For files of every kind, a dry run reports what the migration then does, in the same words, and every error is one that the tool knows.</summary>
public sealed class DryRunTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-dry-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_dry_run_refuses_and_promises_what_the_migration_does()
    {
        int refused = 0, rounded = 0, quarantined = 0;
        const int Files = 160;
        for (int seed = 0; seed < Files; seed++)
        {
            Random random = new(seed);
            string file = Path.Combine(_folder, $"{seed}.pkl");
            Shape shape = new(random.Next(1, 4), random.Next(1, 3), random.Next(12) == 0 ? new[] { 4, 600 }[random.Next(2)] : new[] { 8, 10, 16 }[random.Next(3)]);
            byte[] bytes = OldPickle.Of(Root(random, shape));
            File.WriteAllBytes(file, random.Next(12) == 0 ? Mutation.OfBytes(bytes, random) : bytes);
            string[] command = ["data", "migrate", file, "--to", Name(random), "--store", Store(random, seed), .. Options(random, shape), "--json"];
            string[] before = Listing();
            Tool dry = Tool.Run([.. command, "--dry-run"]);
            Assert.Equal(before, Listing());
            Tool done = Tool.Run(command);
            Assert.True((dry.Exit, dry.Error) == (done.Exit, done.Error), $"seed {seed}: {dry.Error} and {done.Error}");
            Assert.True(Told(dry) == Told(done), $"seed {seed}: {dry.Output} and {done.Output}");
            refused += done.Exit == 0 ? 0 : 1;
            JsonNode? report = done.Exit == 0 ? JsonNode.Parse(done.Output) : null;
            rounded += report?["rounded_elements"]!.GetValue<long>() > 0 ? 1 : 0;
            quarantined += report?["quarantined"]!.AsArray().Count > 0 ? 1 : 0;
        }

        // There must be some of each kind; otherwise the files test nothing.
        Assert.InRange(refused, Files / 10, Files * 7 / 10);
        Assert.InRange(rounded, 5, Files);
        Assert.InRange(quarantined, 5, Files);
    }

    [Theory]
    [InlineData("plain_torch_p4.pkl", 31)]
    [InlineData("zip_kv.pt", 32)]
    [InlineData("tar_kv.pt", 33)]
    [InlineData("legacy_kv.pt", 34)]
    public void A_mutated_file_is_taken_or_refused_with_one_line(string name, int seed)
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Fixtures", name));
        bool isArchive = name is "zip_kv.pt" or "tar_kv.pt";
        Random random = new(seed);
        string file = Path.Combine(_folder, "old.pt");
        string store = Path.Combine(_folder, "store");
        int taken = 0;
        const int Runs = 400;
        for (int run = 0; run < Runs; run++)
        {
            File.WriteAllBytes(file, isArchive && run % 2 == 0 ? Mutation.OfMembers(whole, random) : Mutation.OfBytes(whole, random));
            string[] command = (run % 4) switch
            {
                0 => ["data", "inspect", file, "--json"],
                1 => ["data", "inspect", file, "--geometry", "2,2,8"],
                2 => ["data", "migrate", file, "--to", "s", "--store", store, "--dry-run"],
                _ => ["data", "migrate", file, "--to", $"{run}", "--store", store],
            };
            Tool tool = Tool.Run(command);
            Assert.True(tool.Exit is 0 or 1 or 2, $"run {run}: {tool.Exit}");
            Assert.True(tool.Exit == 0 || (tool.Output.Length == 0 && tool.Error.StartsWith("E00", StringComparison.Ordinal) && tool.Error.TrimEnd().Split('\n').Length == 1), $"run {run}: {tool.Error}");
            taken += tool.Exit == 0 ? 1 : 0;
        }

        Assert.InRange(taken, 1, Runs - 1);
    }

    private static string Told(Tool tool)
    {
        if (tool.Exit != 0)
        {
            return tool.Output;
        }

        JsonNode report = JsonNode.Parse(tool.Output)!;
        report["dry_run"] = null;
        return report.ToJsonString();
    }

    private static string Name(Random random) => random.Next(15) switch
    {
        0 => new string('x', 70_000),
        1 => " /\u00e9..",
        _ => "s",
    };

    private string Store(Random random, int seed)
    {
        string store = Path.Combine(_folder, $"store {seed}");
        switch (random.Next(20))
        {
            case 0:
                File.WriteAllText(store, "a file");
                return store;
            case 1:
                return Path.Combine(store, "within", "what is not there");
            case 2:
                Directory.CreateDirectory(store);
                return store;
            case 3:
                return Path.Combine(_folder, "shared by several");
            default:
                return store;
        }
    }

    private static string[] Options(Random random, Shape shape)
    {
        string[] geometry = random.Next(8) switch
        {
            0 => ["--geometry", $"{random.Next(1, 4)},{random.Next(1, 3)},{new[] { 8, 10, 16 }[random.Next(3)]}"],
            < 4 => ["--geometry", $"{shape.Layers},{shape.Heads},{shape.Width}"],
            _ => [],
        };
        return random.Next(4) == 0 ? [.. geometry, "--lossless"] : geometry;
    }

    // A cache as some program may have written it: most entries have one shape, and some have another.
    private static object? Root(Random random, Shape shape)
    {
        string type = new[] { "f2", "f4", "f8" }[random.Next(3)];
        bool isExact = random.Next(2) == 0;
        (object, object?)[] entries = [.. Enumerable.Range(0, random.Next(0, 14)).Select(i => (Key(random, i), Entry(random, shape, type, isExact)))];
        return random.Next(8) switch
        {
            0 => Entry(random, shape, type, isExact),
            _ => entries,
        };
    }

    private static object Key(Random random, int i) => random.Next(16) switch
    {
        0 => i,
        1 => new object?[] { "t", i },
        2 => new object?[] { $"u{i}", 0, i },
        _ => $"s{i}",
    };

    private static object? Entry(Random random, Shape shape, string type, bool isExact)
    {
        int tokens = random.Next(10) == 0 ? 70 : random.Next(1, 5);
        double fault = new[] { double.NaN, double.PositiveInfinity, 1e39, 70_000, 1e-50 }[random.Next(5)];
        int at = random.Next(12) == 0 ? random.Next(40) : -1;
        Func<int, double> element = i => i == at ? fault : isExact ? (i % 300) / 8.0 : i / 7.0;
        OldArray Array(params long[] axes) => new(random.Next(60) == 0 ? "i1" : type, axes, element);
        object?[] Layer() => [Array(1, shape.Heads, tokens, shape.Width), Array(1, shape.Heads, tokens, shape.Width)];
        object?[] Several() => [.. Enumerable.Range(0, shape.Layers).Select(_ => (object?)Layer())];
        return random.Next(9) switch
        {
            0 when random.Next(2) == 0 => "no tensor",
            1 when random.Next(2) == 0 => Array(shape.Heads, tokens, shape.Width),
            2 => new object?[] { Array(shape.Layers, shape.Heads, tokens, shape.Width), Array(shape.Layers, shape.Heads, tokens, shape.Width) },
            3 => new (object, object?)[]
            {
                ("key_cache", Several().Select(l => ((object?[])l!)[0]).ToList()), ("value_cache", Several().Select(l => ((object?[])l!)[1]).ToList()), ("seen", tokens),
            },
            4 => new object?[] { Array(shape.Layers, shape.Heads, shape.Width), Array(shape.Layers, shape.Heads, shape.Width) },
            _ => Several(),
        };
    }

    private string[] Listing() => [.. Directory.EnumerateFileSystemEntries(_folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(f => $"{f} {File.GetLastWriteTimeUtc(f):o}")];

    private sealed record Shape(int Layers, int Heads, int Width);
}
