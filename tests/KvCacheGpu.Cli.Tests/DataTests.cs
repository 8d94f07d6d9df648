using System.Text.Json;
using KvCacheGpu.Import;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Old files through the commands: inspected, migrated, exported.</summary>
public sealed class DataTests : IDisposable
{
    private static readonly ImportGeometry Shape = new(2, 2, 8, 16);

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-data-").FullName;

    private string Store => Path.Combine(_folder, "store");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("zip_kv.pt", "torch-zip")]
    [InlineData("legacy_kv.pt", "torch-legacy")]
    [InlineData("tar_kv.pt", "torch-tar")]
    [InlineData("plain_torch_p4.pkl", "pickle")]
    public void Inspect_gives_the_digests_that_Python_gave(string name, string format)
    {
        JsonElement report = Schema.Check(Tool.Json("data", "inspect", Fixture(name)), "format string, entries number, tensors array, quarantined array");
        Assert.Equal(format, report.Text("format"));
        JsonElement[] tensors = [.. report.GetProperty("tensors").EnumerateArray().Select(t => Schema.Check(t, "path string, dtype string, shape array, sha256 string"))];
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllText(Fixture("expected.json")));
        Assert.Equal(
            expected.RootElement.GetProperty(name).EnumerateObject().Where(p => p.Value.TryGetProperty("sha256", out _)).Select(p =>
                $"{p.Name} {p.Value.Text("dtype")!.Replace("torch.", string.Empty, StringComparison.Ordinal)} [{string.Join(", ", p.Value.Ints("shape"))}] {p.Value.Text("sha256")}").Order(StringComparer.Ordinal),
            tensors.Select(t => $"{t.Text("path")} {t.Text("dtype")} [{string.Join(", ", t.Ints("shape"))}] {t.Text("sha256")}").Order(StringComparer.Ordinal));
        Assert.All(report.GetProperty("quarantined").EnumerateArray(), e => Schema.Check(e, "path string, reason string"));
        string last = Tool.Run("data", "inspect", Fixture(name)).Output.TrimEnd().Split('\n')[^1];
        Assert.StartsWith($"{report.Long("entries")} entries = ", last, StringComparison.Ordinal);
    }

    [Fact]
    public void Migrate_is_dry_on_request_idempotent_and_leaves_the_original()
    {
        string old = Write("old.pt", ("a", 100), ("b", 3));
        byte[] before = File.ReadAllBytes(old);
        JsonElement dry = Tool.Json("data", "migrate", old, "--to", "s", "--store", Store, "--dry-run");
        Assert.Equal((true, false, 2, 2, 103), (dry.GetProperty("dry_run").GetBoolean(), dry.GetProperty("already_done").GetBoolean(), dry.Long("entries"), dry.Long("sequences"), dry.Long("tokens")));
        Assert.Equal([old], Directory.EnumerateFileSystemEntries(_folder));

        JsonElement done = Tool.Json("data", "migrate", old, "--to", "s", "--store", Store);
        Assert.Equal((false, "f16", 2), (done.GetProperty("already_done").GetBoolean(), done.Text("format"), done.Long("imported")));
        Assert.Equal(done.Long("entries"), done.Long("imported") + done.GetProperty("quarantined").GetArrayLength() + done.GetProperty("refused").GetArrayLength());
        Assert.True(Tool.Json("snapshot", "verify", "s", "--store", Store)[0].GetProperty("whole").GetBoolean());
        Assert.Equal(before, File.ReadAllBytes(old));
        Assert.Equal([old, Store], Directory.EnumerateFileSystemEntries(_folder).Order(StringComparer.Ordinal));

        string[] files = Listing();
        Assert.True(Tool.Json("data", "migrate", old, "--to", "s", "--store", Store).GetProperty("already_done").GetBoolean());
        Tool.Refused(2, "E003", "data", "migrate", Write("other.pt", ("a", 5)), "--to", "s", "--store", Store);
        Assert.Equal(files, Listing());
    }

    [Fact]
    public void Export_gives_back_what_was_migrated()
    {
        string old = Write("old.pt", ("a", 100), ("b", 3));
        Tool.Json("data", "migrate", old, "--to", "s", "--store", Store);
        string way = Path.Combine(_folder, "back.pt");
        JsonElement report = Tool.Json("data", "export", "s", "--to", way, "--store", Store);
        Assert.Equal(("float16", 2, 103), (report.Text("dtype"), report.Long("sequences"), report.Long("tokens")));
        Assert.Equal(Tensors(old), Tensors(way));
        Tool.Refused(2, "E003", "data", "export", "s", "--to", way, "--store", Store);
        Tool.Refused(2, "E002", "data", "export", "none", "--to", Path.Combine(_folder, "none.pt"), "--store", Store);
    }

    [Fact]
    public void A_dry_run_refuses_what_the_engine_would()
    {
        // Heads of 4 elements.
        string line = Tool.Refused(2, "E003", "data", "migrate", Fixture("zip_kv.pt"), "--to", "s", "--store", Store, "--dry-run");
        Assert.Contains("8..576", line, StringComparison.Ordinal);
        Assert.Equal(line, Tool.Refused(2, "E003", "data", "migrate", Fixture("zip_kv.pt"), "--to", "s", "--store", Store));
        Tool.Refused(2, "E002", "data", "migrate", Path.Combine(_folder, "none.pt"), "--to", "s", "--store", Store, "--dry-run");
        string bad = Path.Combine(_folder, "bad.pkl");
        File.WriteAllBytes(bad, [0x80, 2, .. "cposix\nsystem\n."u8]);
        Assert.Contains("posix.system at byte 2", Tool.Refused(2, "E009", "data", "inspect", bad), StringComparison.Ordinal);
        Assert.False(Directory.Exists(Store));
    }

    [Fact]
    public void A_file_that_changes_meanwhile_is_not_kept_and_costs_no_snapshot_that_is_there()
    {
        string old = Write("old.pt", ("a", 100));
        string other = Write("other.pt", ("x", 5));
        DataMigration migration = new(old, "s", Store, Shape);
        IOException changed = Assert.Throws<IOException>(() => migration.Run(dryRun: false, new BeforeVerifying(() =>
        {
            Tool.Json("data", "migrate", other, "--to", "s", "--store", Store);
            File.Move(Write("third.pt", ("a", 99)), old, overwrite: true);
        })));
        Assert.Contains("changed", changed.Message, StringComparison.Ordinal);
        Assert.True(Tool.Json("data", "migrate", other, "--to", "s", "--store", Store).GetProperty("already_done").GetBoolean());
        Assert.Equal([old, other, Store], Directory.EnumerateFileSystemEntries(_folder).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Run_goes_on_from_an_exported_file_as_from_the_snapshot()
    {
        string[] run = ["run", "--device", "cpu", "--max-new-tokens"];
        int[] first = Tool.Json([.. run, "8", "--prompt", "In the beginning", "--save", "a", "--store", Store]).Ints("tokens");
        string file = Path.Combine(_folder, "a.bin");
        Tool.Json("data", "export", "a", "--to", file, "--store", Store);

        // The last token is not in the cache yet; a snapshot says which it was, an old file does not.
        JsonElement after = Tool.Json([.. run, "6", "--load", file, "--prompt-tokens", $"{first[^1]}"]);
        Assert.Equal(Tool.Json([.. run, "6", "--load", "a", "--store", Store]).Ints("tokens"), after.Ints("tokens"));
        Assert.Contains("appended anew", after.GetProperty("restored").GetProperty("notes")[0].GetString(), StringComparison.Ordinal);
        Assert.Equal(after.Ints("tokens"), Tool.Json([.. run, "6", "--load", file, "--store", Store, "--prompt-tokens", $"{first[^1]}"]).Ints("tokens"));

        Tool.Refused(2, "E003", "run", "--load", file);
        Tool.Refused(2, "E003", "run", "--load", Write("other.pt", ("a", 5)), "--prompt", "x");
        Tool.Refused(2, "E003", "run", "--load", Fixture("expected.json"), "--prompt", "x");
    }

    [Fact]
    public async Task The_engine_converts_an_old_file_that_it_loads()
    {
        Directory.CreateDirectory(Store);
        File.Move(Write("old.pt", ("a", 100), ("b", 3)), Path.Combine(Store, "old.pt"));
        KvCacheConfig config = new() { MaxTokens = 1024, ConfigureOptions = options => options.Device = "cpu" };
        (config.Persistence.EnablePersistence, config.Persistence.PersistencePath) = (true, Store);
        using UltraAdaptiveKvCacheEngine engine = new(new KvGeometry(Shape.Layers, Shape.Heads, Shape.Heads, Shape.KeyWidth, Shape.ValueWidth), config);
        KvRestored restored = await engine.LoadAsync("old.pt");
        Assert.Equal("pickle and torch.save", restored.ImportedBy);
        Assert.Equal([("a", 100), ("b", 3)], restored.Sequences.Select(s => (s.Name!, s.Length)));
    }

    private static string Fixture(string name) => Path.Combine(AppContext.BaseDirectory, "Fixtures", name);

    private static string[] Tensors(string path)
    {
        using CacheFile file = CacheFile.Open(path);
        return [.. file.Tensors.Select(t => $"{t.Path} {t.Tensor.Type.Name()} [{string.Join(", ", t.Tensor.Shape)}] {Convert.ToHexStringLower(t.Tensor.Sha256())}")];
    }

    // Numbers that binary16 has, no two neighbours alike.
    private string Write(string name, params (string Name, int Tokens)[] sequences)
    {
        string path = Path.Combine(_folder, name);
        using FileStream stream = File.Create(path);
        TorchWriter.Write(stream, Shape, ElementType.Float16, [.. sequences.Select(s => new TorchSequence(s.Name, s.Tokens, (layer, first, tokens, keys, values) =>
        {
            for (int i = 0; i < keys.Length; i++)
            {
                keys[i] = ((((first * Shape.Heads * Shape.KeyWidth) + i) * 7 % 1021) + layer + s.Tokens) / 64f;
            }

            for (int i = 0; i < values.Length; i++)
            {
                values[i] = -((((first * Shape.Heads * Shape.ValueWidth) + i) * 5 % 1019) + layer + s.Tokens) / 32f;
            }
        }))]);
        return path;
    }

    private string[] Listing() => [.. Directory.EnumerateFiles(Store).Order(StringComparer.Ordinal).Select(f => f + Convert.ToHexString(File.ReadAllBytes(f)))];

    private sealed class BeforeVerifying(Action act) : IStages
    {
        public IProgress<int> Begin(string name, int units)
        {
            if (name == "verifying")
            {
                act();
            }

            return new Direct<int>(_ => { });
        }
    }
}
