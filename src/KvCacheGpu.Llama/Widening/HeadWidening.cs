using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama;

/// <summary>
/// Writes a model that computes the same function with wider heads, and with keys that have outliers if they are wanted: an instrument which shows what a
/// cache's formats do on the head widths and keys of large models, with a small one. Thread safety: it never changes.
/// </summary>
/// <remarks>
/// Pair j of a width w becomes pair j W/w of the width W, which turns by the same angles; all other elements of queries and keys are zero. Values go through
/// a random orthonormal map, whose transpose stands before the output projection. The factor sqrt(W/w) in the queries undoes that attention divides by the
/// root of the width.
/// </remarks>
/// <param name="HeadWidth">The width W of the new heads: a multiple of the model's width w. Values stay as they are if it is the same width.</param>
/// <param name="Outliers">
/// The factor S of the keys of two slow pairs of each KV head, by which the queries of these pairs are divided. The default value is 1: no outliers.
/// </param>
/// <param name="Seed">The seed of the maps and of the choice of pairs, which do not depend on the factor. The default value is 0.</param>
public sealed record HeadWidening(int HeadWidth, double Outliers = 1, int Seed = 0)
{
    /// <summary>The largest factor of outliers, so that no query becomes subnormal.</summary>
    public const double MostOutliers = 10_000;

    private const string ConfigName = "config.json";

    /// <summary>Writes the model. The directory appears when it is whole.</summary>
    /// <param name="source">The model's directory.</param>
    /// <param name="target">A directory that does not exist yet, or is empty.</param>
    /// <exception cref="KvConfigurationException">E003: the width is not a multiple of the model's width, or the factor or the width is out of range.</exception>
    /// <exception cref="LlamaFormatException">
    /// The model is missing (E002) or damaged (E004), of another architecture, or has norms over its heads, which wider heads would change (E009).
    /// </exception>
    /// <exception cref="IOException">The target is there and not empty, or cannot be written.</exception>
    public void Write(string source, string target)
    {
        ArgumentException.ThrowIfNullOrEmpty(source);
        ArgumentException.ThrowIfNullOrEmpty(target);
        LlamaConfig config = LlamaConfig.Load(Path.Combine(source, ConfigName));
        Check(config);
        target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(target));
        string unfinished = $"{target}.{Path.GetRandomFileName()}";
        Directory.CreateDirectory(unfinished);
        try
        {
            WriteWeights(source, unfinished, config);
            WriteConfig(source, unfinished);
            foreach (string file in Directory.GetFiles(source).Where(IsKept))
            {
                LlamaFormatException.ThrowIfNoFile(file);
                File.Copy(file, Path.Combine(unfinished, Path.GetFileName(file)));
            }

            if (Directory.Exists(target))
            {
                Directory.Delete(target);
            }

            Directory.Move(unfinished, target);
        }
        catch
        {
            Directory.Delete(unfinished, recursive: true);
            throw;
        }
    }

    private void Check(LlamaConfig config)
    {
        if (HeadWidth < config.HeadWidth || HeadWidth % config.HeadWidth != 0 || HeadWidth > KvGeometry.MaxWidth)
        {
            throw new KvConfigurationException("head width", $"a multiple of the model's {config.HeadWidth}, at most {KvGeometry.MaxWidth}", $"{HeadWidth}");
        }

        if (!(Outliers is >= 1 and <= MostOutliers))
        {
            throw new KvConfigurationException("outliers", FormattableString.Invariant($"a factor of 1..{MostOutliers}"), FormattableString.Invariant($"{Outliers}"));
        }

        if (config.Architecture.QueryKeyNorm)
        {
            LlamaFormatException.ThrowUnsupported(ConfigName, "architectures", "a model without norms over its query and key heads", config.Architecture.Name);
        }
    }

    private void WriteWeights(string source, string target, LlamaConfig config)
    {
        using WeightFiles files = WeightFiles.Open(source);
        Dictionary<string, Change> changes = Changes(files, config);
        List<(TensorEntry Entry, Action<Stream> Write)> tensors = [];
        foreach ((SafetensorsFile file, TensorEntry entry) in files.Tensors)
        {
            if (changes.TryGetValue(entry.Name, out Change change))
            {
                // Binary32, because products with roots and random maps are not exact in 16 bits.
                TensorEntry wide = new(entry.Name, nameof(WeightType.F32), change.Shape, 0, sizeof(float) * change.Shape.Aggregate(1L, (a, b) => a * b));
                tensors.Add((wide, stream => stream.Write(MemoryMarshal.AsBytes<float>(change.Widen(WeightReader.Values(file, entry))))));
            }
            else if (!entry.Name.EndsWith(WeightFiles.Frequencies, StringComparison.Ordinal))
            {
                tensors.Add((entry, stream => file.CopyTo(entry, stream)));
            }
        }

        SafetensorsWriter.Write(Path.Combine(target, WeightFiles.SingleName), tensors, files.Metadata);
    }

    // The tensors that differ, by name. Where a width or a factor changes nothing, a tensor keeps its bytes.
    private Dictionary<string, Change> Changes(WeightFiles files, LlamaConfig config)
    {
        Dictionary<string, Change> changes = new(StringComparer.Ordinal);
        WideHeads heads = new(config, this);
        (bool isWider, int hidden) = (HeadWidth > config.HeadWidth, config.HiddenSize);
        for (int layer = 0; layer < config.Layers; layer++)
        {
            int at = layer;
            if (isWider || Outliers > 1)
            {
                AddRows(at, "q_proj", config.QueryHeads, rows => heads.Queries(at, rows));
                AddRows(at, "k_proj", config.KvHeads, rows => heads.Keys(at, rows));
            }

            if (isWider)
            {
                AddRows(at, "v_proj", config.KvHeads, rows => heads.Values(at, rows));
                TensorEntry output = files.Require(NameOf(at, "o_proj.weight"), hidden, config.QueryHeads * config.HeadWidth).Entry;
                changes[output.Name] = new Change([hidden, config.QueryHeads * HeadWidth], matrix => heads.Outputs(at, matrix));
            }
        }

        return changes;

        void AddRows(int layer, string projection, int count, Func<float[], float[]> widen)
        {
            TensorEntry weight = files.Require(NameOf(layer, projection + ".weight"), count * config.HeadWidth, hidden).Entry;
            changes[weight.Name] = new Change([count * HeadWidth, hidden], widen);
            if (config.Architecture.QueryKeyValueBias)
            {
                TensorEntry bias = files.Require(NameOf(layer, projection + ".bias"), count * config.HeadWidth).Entry;
                changes[bias.Name] = new Change([count * HeadWidth], widen);
            }
        }
    }

    private void WriteConfig(string source, string target)
    {
        JsonObject config = JsonNode.Parse(ModelFile.ReadAll(Path.Combine(source, ConfigName)))!.AsObject();
        config["head_dim"] = HeadWidth;
        foreach (string type in new[] { "torch_dtype", "dtype" }.Where(config.ContainsKey))
        {
            // Other readers convert all weights to this type.
            config[type] = "float32";
        }

        File.WriteAllText(Path.Combine(target, ConfigName), config.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }

    private static string NameOf(int layer, string tensor) => $"model.layers.{layer}.self_attn.{tensor}";

    // Tokenizers, other settings, and a text that came with the model.
    private static bool IsKept(string file) =>
        Path.GetExtension(file) is ".json" or ".model" or ".txt" && Path.GetFileName(file) is not (ConfigName or WeightFiles.SingleName + ".index.json");

    private readonly record struct Change(long[] Shape, Func<float[], float[]> Widen);
}
