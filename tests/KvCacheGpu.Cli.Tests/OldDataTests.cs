using System.Text.Json;
using KvCacheGpu.Import;
using KvCacheGpu.Import.Tests;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Contents of old files that users have: float64, a NaN, many sessions, layers in other places, files that are no caches at all.</summary>
public sealed class OldDataTests : IDisposable
{
    private const int Heads = 2;
    private const int Width = 8;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-old-").FullName;

    private string Store => Path.Combine(_folder, "store");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Float64_is_kept_as_float32_with_the_loss_stated()
    {
        string file = Write(Dict(("a", Pair("f8", 3, i => i / 8.0)), ("b", Pair("f8", 2, i => i == 5 ? 0.7 : i))));
        const string Loss = "2 elements of float64 are rounded to float32, by at most 1.7e-08 of what they are";
        foreach (string[] dry in new[] { ["--dry-run"], Array.Empty<string>() })
        {
            Tool tool = Tool.Run(["data", "migrate", file, "--to", "s", "--store", Store, .. dry]);
            Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
            Assert.Contains(Loss, tool.Output, StringComparison.Ordinal);
            Assert.Equal(dry.Length == 0, tool.Output.TrimEnd().EndsWith("in f32: is made, and reads back as the file, rounded to float32", StringComparison.Ordinal));
        }

        Assert.Contains(Loss, Tool.Run("data", "inspect", file).Output, StringComparison.Ordinal);
        JsonElement report = Tool.Json("data", "migrate", file, "--to", "t", "--store", Store);
        Assert.Equal((2, 2, 0), (report.Long("rounded_elements"), report.Long("imported"), report.GetProperty("quarantined").GetArrayLength()));
        Assert.InRange(report.Double("largest_rounding"), 1.6e-8, 1.8e-8);
    }

    [Fact]
    public void Lossless_takes_what_float32_has_and_quarantines_the_rest_by_name()
    {
        string file = Write(Dict(("a", Pair("f8", 3, i => i / 8.0)), ("b", Pair("f8", 2, i => i == 5 ? 0.7 : i))));
        Tool tool = Tool.Run("data", "migrate", file, "--to", "s", "--store", Store, "--lossless");
        Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
        Assert.Contains("quarantined /'b': float64, of which float32 does not have 2 elements", tool.Output, StringComparison.Ordinal);
        Assert.EndsWith("1 sequences, 3 tokens in f32: is made, and reads back as the file", tool.Output.TrimEnd(), StringComparison.Ordinal);

        // Alone it leaves nothing to make, dry or not.
        string alone = Write(Pair("f8", 2, _ => 0.7));
        string line = Tool.Refused(2, "E003", "data", "migrate", alone, "--to", "t", "--store", Store, "--lossless", "--dry-run");
        Assert.Equal(line, Tool.Refused(2, "E003", "data", "migrate", alone, "--to", "t", "--store", Store, "--lossless"));
    }

    [Fact]
    public void A_NaN_takes_its_own_entry_out_by_name_and_the_others_go_through()
    {
        string file = Write(Dict(("good", Pair("f4", 3, i => i)), ("bad", Pair("f4", 3, i => i == 4 ? double.NaN : i)), ("fine", Pair("f4", 1, i => -i))));
        JsonElement dry = Tool.Json("data", "migrate", file, "--to", "s", "--store", Store, "--dry-run");
        JsonElement done = Tool.Json("data", "migrate", file, "--to", "s", "--store", Store);
        foreach (JsonElement report in new[] { dry, done })
        {
            Assert.Equal((2, 2, 4), (report.Long("imported"), report.Long("sequences"), report.Long("tokens")));
            JsonElement out1 = Assert.Single(report.GetProperty("quarantined").EnumerateArray());
            Assert.Equal(("/'bad'", "a NaN among its keys"), (out1.Text("path"), out1.Text("reason")));
        }

        Assert.Contains("quarantined /'bad': a NaN among its keys", Tool.Run("data", "inspect", file).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void More_sessions_than_a_cache_holds_by_default_come_and_go()
    {
        string file = Write(Dict([.. Enumerable.Range(0, 21).Select(s => ($"session {s}", Pair("f2", 1 + (s % 3), i => (i + s) / 16.0)))]));
        Assert.Equal(21, Tool.Json("data", "migrate", file, "--to", "s", "--store", Store, "--dry-run").Long("sequences"));
        Assert.Equal(21, Tool.Json("data", "migrate", file, "--to", "s", "--store", Store).Long("sequences"));
        string back = Path.Combine(_folder, "back.pt");
        Assert.Equal(21, Tool.Json("data", "export", "s", "--to", back, "--store", Store).Long("sequences"));
        using CacheFile old = CacheFile.Open(file);
        using CacheFile exported = CacheFile.Open(back);
        Assert.Equal(old.Tensors.Select(t => Convert.ToHexString(t.Tensor.Sha256())), exported.Tensors.Select(t => Convert.ToHexString(t.Tensor.Sha256())));
    }

    [Theory]
    [InlineData("stacked")]
    [InlineData("lists")]
    [InlineData("tuple")]
    public void What_inspect_calls_importable_migrate_takes(string form)
    {
        OldArray Layer(int layer, bool isValue) => new("f4", [1, Heads, 5, Width], i => i + (1000 * layer) + (isValue ? 0.5 : 0));
        object root = form switch
        {
            "stacked" => Dict(("s", new object?[]
            {
                new OldArray("f4", [3, Heads, 5, Width], i => i % (Heads * 5 * Width) + (1000 * (i / (Heads * 5 * Width)))),
                new OldArray("f4", [3, Heads, 5, Width], i => i % (Heads * 5 * Width) + (1000 * (i / (Heads * 5 * Width))) + 0.5),
            })),
            "lists" => Dict(
                ("key_cache", new List<object?> { Layer(0, false), Layer(1, false), Layer(2, false) }),
                ("value_cache", new List<object?> { Layer(0, true), Layer(1, true), Layer(2, true) }),
                ("_seen_tokens", 5)),
            _ => Enumerable.Range(0, 3).Select(l => (object?)new object?[] { Layer(l, false), Layer(l, true) }).ToArray(),
        };
        string file = Write(root);
        string geometry = $"3,{Heads},{Width}";
        string inspected = Tool.Run("data", "inspect", file, "--geometry", geometry).Output.TrimEnd().Split('\n')[^1];
        Assert.Equal("1 entries = 1 importable + 0 quarantined + 0 refused", inspected);
        JsonElement report = Tool.Json("data", "migrate", file, "--to", "s", "--store", Store, "--geometry", geometry);
        Assert.Equal((1, 1, 5), (report.Long("imported"), report.Long("sequences"), report.Long("tokens")));

        string back = Path.Combine(_folder, "back.pt");
        Tool.Json("data", "export", "s", "--to", back, "--store", Store);
        using CacheFile exported = CacheFile.Open(back);
        using CacheFile old = CacheFile.Open(Write(Dict([.. Enumerable.Range(0, 3).Select(l => ($"{l}", (object?)new object?[] { Layer(l, false), Layer(l, true) }))])));
        Assert.Equal(old.Tensors.Select(t => Convert.ToHexString(t.Tensor.Sha256())), exported.Tensors.Select(t => Convert.ToHexString(t.Tensor.Sha256())));
    }

    [Theory]
    [InlineData("npy", "one array of numpy.save (.npy)")]
    [InlineData("npz", "arrays of numpy.savez (.npz)")]
    [InlineData("lfs", "a Git LFS pointer in place of the file; git lfs pull fetches it")]
    [InlineData("gz", "a gzip file")]
    [InlineData("safetensors", "a safetensors file")]
    [InlineData("json", "JSON")]
    [InlineData("empty", "an empty file")]
    public void A_file_that_is_no_cache_is_named_as_what_it_is(string kind, string expected)
    {
        byte[] bytes = kind switch
        {
            "npy" => [0x93, .. "NUMPY\u0001\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n"u8, .. new byte[12]],
            "npz" => [.. "PK\u0003\u0004\u0014\0\0\0\u0008\0"u8, .. new byte[16], 8, 0, 0, 0, .. "keys.npy"u8, .. new byte[40]],
            "lfs" => [.. "version https://git-lfs.github.com/spec/v1\noid sha256:0badcafe\nsize 77\n"u8],
            "gz" => [0x1f, 0x8b, 8, 0, 0, 0, 0, 0],
            "safetensors" => [12, 0, 0, 0, 0, 0, 0, 0, .. "{\"k\": {}    "u8],
            "json" => [.. "{\"kv_cache_size\": 12}"u8],
            _ => [],
        };
        string file = Path.Combine(_folder, "old.pt");
        File.WriteAllBytes(file, bytes);
        Assert.Contains(expected, Tool.Refused(2, "E009", "data", "inspect", file), StringComparison.Ordinal);
        Assert.Contains(expected, Tool.Refused(2, "E009", "data", "migrate", file, "--to", "s", "--store", Store, "--dry-run"), StringComparison.Ordinal);
        Assert.Contains(expected, Tool.Refused(2, "E003", "run", "--load", file, "--prompt", "x"), StringComparison.Ordinal);
    }

    private static (object Key, object? Value)[] Dict(params (object Key, object? Value)[] items) => items;

    private static object?[] Pair(string type, int tokens, Func<int, double> element) =>
        [new OldArray(type, [Heads, tokens, Width], element), new OldArray(type, [Heads, tokens, Width], i => -element(i))];

    private string Write(object? root)
    {
        string path = Path.Combine(_folder, $"{Guid.NewGuid():n}.pkl");
        File.WriteAllBytes(path, OldPickle.Of(root));
        return path;
    }
}
