using System.Text.Json.Nodes;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Models with wider heads and outlier keys: the same function, in other keys and values.</summary>
public sealed class WideningTests(DemoFixture demo) : IClassFixture<DemoFixture>
{
    private const double Tolerance = 1e-5;
    private const string Keys = "model.layers.1.self_attn.k_proj.weight";

    [Theory]
    [InlineData(64, 1)]
    [InlineData(64, 5)]
    [InlineData(64, 20)]
    [InlineData(128, 1)]
    [InlineData(128, 5)]
    [InlineData(128, 20)]
    [InlineData(192, 10)]
    public void The_demo_model_keeps_its_logits(int width, double outliers)
    {
        using TempFolder folder = new();
        string wide = Path.Combine(folder.Path, "wide");
        new HeadWidening(width, outliers).Write(DemoModel.Directory, wide);
        using LlamaModel model = LlamaModel.Load(wide);
        Assert.Equal((width, 4, 2), (model.Config.HeadWidth, model.Config.QueryHeads, model.Config.KvHeads));
        Assert.Equal(demo.Ids, model.Tokenizer!.Encode(demo.Text)[..demo.Ids.Length]);
        Assert.InRange(Distance(demo.Model, model, demo.Ids), 0, Tolerance);
    }

    [Theory]
    [InlineData("LlamaForCausalLM", "F32", false)]
    [InlineData("LlamaForCausalLM", "BF16", true)]
    [InlineData("MistralForCausalLM", "F16", false)]
    [InlineData("Qwen2ForCausalLM", "F32", true)]
    public void Biases_shards_and_stretched_rope_keep_their_meaning(string architecture, string type, bool isSharded)
    {
        using TinyCheckpoint tiny = new(type: type, tied: false, architecture: architecture);
        tiny.Config["rope_scaling"] = new JsonObject
        {
            ["rope_type"] = "llama3",
            ["factor"] = 4,
            ["low_freq_factor"] = 1,
            ["high_freq_factor"] = 4,
            ["original_max_position_embeddings"] = 16,
        };
        tiny.Config["torch_dtype"] = "bfloat16";
        _ = isSharded ? tiny.WriteShards(3) : tiny.Write();
        using TempFolder folder = new();
        string wide = Path.Combine(folder.Path, "a", "wide");
        new HeadWidening(32, 7, Seed: 3).Write(tiny.Path, wide);
        using LlamaModel narrow = tiny.Load(), model = LlamaModel.Load(wide);
        Assert.InRange(Distance(narrow, model, [.. Enumerable.Range(0, 40)]), 0, Tolerance);
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFiles(wide).Select(Path.GetFileName).Order());
        Assert.Contains("\"float32\"", File.ReadAllText(Path.Combine(wide, "config.json")), StringComparison.Ordinal);
    }

    [Fact]
    public void Two_slow_pairs_of_each_head_are_outliers_and_the_rest_is_as_without()
    {
        using TempFolder folder = new();
        (string plain, string tall) = (Path.Combine(folder.Path, "plain"), Path.Combine(folder.Path, "tall"));
        new HeadWidening(128).Write(DemoModel.Directory, plain);
        new HeadWidening(128, 8).Write(DemoModel.Directory, tall);
        float[] before = Read(plain, Keys), after = Read(tall, Keys);
        foreach (int head in new[] { 0, 1 })
        {
            List<int> larger = [];
            for (int element = 0; element < 128; element++)
            {
                ReadOnlySpan<float> a = before.AsSpan(((head * 128) + element) * 256, 256), b = after.AsSpan(((head * 128) + element) * 256, 256);

                // Old pairs are every second new one; the elements between them are zero.
                Assert.Equal(element % 2 == 1, a.IndexOfAnyExcept(0) < 0);
                if (!a.SequenceEqual(b))
                {
                    larger.Add(element);
                    Assert.Equal(8 * a[7], b[7]);
                }
            }

            // Both elements of a pair, among the slowest quarter of 64 pairs.
            Assert.Equal(4, larger.Count);
            Assert.All(larger.Take(2), element => Assert.InRange(element, 48, 63));
            Assert.Equal(larger.Take(2), larger.Skip(2).Select(element => element - 64));
        }

        // Values are spread over all elements, by the same map with and without outliers.
        const string values = "model.layers.1.self_attn.v_proj.weight";
        Assert.DoesNotContain(0f, Read(plain, values));
        Assert.Equal(Read(plain, values), Read(tall, values));
    }

    [Fact]
    public void Where_nothing_changes_bytes_stay()
    {
        using TempFolder folder = new();
        string same = Path.Combine(folder.Path, "same");
        new HeadWidening(64).Write(DemoModel.Directory, same);
        using SafetensorsFile before = SafetensorsFile.Open(Path.Combine(DemoModel.Directory, "model.safetensors"));
        using SafetensorsFile after = SafetensorsFile.Open(Path.Combine(same, "model.safetensors"));
        foreach ((TensorEntry a, TensorEntry b) in before.Tensors.Zip(after.Tensors))
        {
            (byte[] old, byte[] copy) = (new byte[a.Bytes], new byte[b.Bytes]);
            before.Read(a, 0, old);
            after.Read(b, 0, copy);
            Assert.Equal((a.Name, a.Type, a.ShapeText), (b.Name, b.Type, b.ShapeText));
            Assert.Equal(old, copy);
        }
    }

    [Theory]
    [InlineData(32, 1)]
    [InlineData(96, 1)]
    [InlineData(63, 1)]
    [InlineData(640, 1)]
    [InlineData(128, 0.5)]
    [InlineData(128, double.NaN)]
    [InlineData(128, double.PositiveInfinity)]
    public void A_width_or_factor_that_cannot_be_is_refused(int width, double outliers)
    {
        using TempFolder folder = new();
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(
            () => new HeadWidening(width, outliers).Write(DemoModel.Directory, Path.Combine(folder.Path, "wide")));
        Assert.Equal(outliers == 1 ? "head width" : "outliers", error.Setting);
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void Norms_over_heads_are_refused()
    {
        using TinyCheckpoint tiny = new TinyCheckpoint(architecture: "Qwen3ForCausalLM").Write();
        using TempFolder folder = new();
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => new HeadWidening(16).Write(tiny.Path, Path.Combine(folder.Path, "wide")));
        Assert.Equal(("E009", "Qwen3ForCausalLM"), (error.Code, error.Actual));
    }

    [Fact]
    public void A_directory_in_use_stays_and_a_failure_leaves_nothing()
    {
        using TempFolder folder = new();
        folder.Write("kept", "kept");
        Assert.ThrowsAny<IOException>(() => new HeadWidening(128).Write(DemoModel.Directory, folder.Path));
        Assert.Equal("kept", Path.GetFileName(Assert.Single(Directory.GetFileSystemEntries(folder.Path))));

        using TinyCheckpoint tiny = new();
        tiny.Tensors.Remove(Keys);
        tiny.Write();
        string wide = Directory.CreateDirectory(Path.Combine(folder.Path, "wide")).FullName;
        Assert.Equal("E004", Assert.Throws<LlamaFormatException>(() => new HeadWidening(16).Write(tiny.Path, wide)).Code);
        Assert.Equal(["kept", "wide"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName).Order());
        Assert.Empty(Directory.GetFileSystemEntries(wide));
    }

    private static float[] Read(string directory, string tensor)
    {
        using WeightFiles files = WeightFiles.Open(directory);
        (SafetensorsFile file, TensorEntry entry) = files.Tensors.Single(t => t.Entry.Name == tensor);
        Assert.Equal("F32", entry.Type);
        return WeightReader.Values(file, entry);
    }

    // The largest distance of one token's logits, relative to their norm.
    private static double Distance(LlamaModel expected, LlamaModel actual, int[] ids)
    {
        (float[] a, float[] b) = (Logits(expected, ids), Logits(actual, ids));
        int vocabulary = expected.Config.VocabularySize;
        return a.Chunk(vocabulary).Zip(b.Chunk(vocabulary), (x, y) => Norm(x.Zip(y, (p, q) => (double)p - q)) / Norm(x.Select(p => (double)p))).Max();
    }

    private static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(v => v * v));

    private static float[] Logits(LlamaModel model, int[] ids)
    {
        using KvCache cache = DemoFixture.NewCache(model);
        using LlamaDecoder decoder = new(model);
        using KvSequence sequence = cache.CreateSequence();
        float[] logits = new float[ids.Length * model.Config.VocabularySize];
        decoder.Forward(sequence, ids, logits);
        return logits;
    }
}
