using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>A random checkpoint in the layout that Hugging Face writes, in a directory of its own; tests bend single parts of it.</summary>
internal sealed class TinyCheckpoint : IDisposable
{
    private readonly Random _random;

    public TinyCheckpoint(int seed = 1, string type = "F32", int heads = 4, int? kvHeads = 2, int? headWidth = 8, bool tied = true, int hidden = 24, int inner = 40, int vocabulary = 50, string architecture = "LlamaForCausalLM", int layers = 2)
    {
        _random = new Random(seed);
        Path = Directory.CreateTempSubdirectory("kvcache-tiny-").FullName;
        int width = headWidth ?? hidden / heads;
        Config = new JsonObject
        {
            ["architectures"] = new JsonArray(architecture),
            ["model_type"] = architecture.Replace("ForCausalLM", string.Empty, StringComparison.Ordinal).ToLowerInvariant(),
            ["vocab_size"] = vocabulary,
            ["hidden_size"] = hidden,
            ["num_hidden_layers"] = layers,
            ["num_attention_heads"] = heads,
            ["intermediate_size"] = inner,
            ["rms_norm_eps"] = 1e-6,
            ["hidden_act"] = "silu",
            ["tie_word_embeddings"] = tied,
            ["bos_token_id"] = 0,
            ["eos_token_id"] = new JsonArray(1, 2),
        };
        if (kvHeads is not null)
        {
            Config["num_key_value_heads"] = kvHeads;
        }

        if (headWidth is not null)
        {
            Config["head_dim"] = headWidth;
        }

        Add("model.embed_tokens.weight", type, vocabulary, hidden);
        Add("model.norm.weight", type, hidden);
        for (int layer = 0; layer < layers; layer++)
        {
            string p = $"model.layers.{layer}.";
            int keys = (kvHeads ?? heads) * width;
            Add(p + "input_layernorm.weight", type, hidden);
            Add(p + "post_attention_layernorm.weight", type, hidden);
            Add(p + "self_attn.q_proj.weight", type, heads * width, hidden);
            Add(p + "self_attn.k_proj.weight", type, keys, hidden);
            Add(p + "self_attn.v_proj.weight", type, keys, hidden);
            Add(p + "self_attn.o_proj.weight", type, hidden, heads * width);
            if (architecture == "Qwen2ForCausalLM")
            {
                Add(p + "self_attn.q_proj.bias", type, heads * width);
                Add(p + "self_attn.k_proj.bias", type, keys);
                Add(p + "self_attn.v_proj.bias", type, keys);
            }

            if (architecture == "Qwen3ForCausalLM")
            {
                Add(p + "self_attn.q_norm.weight", type, width);
                Add(p + "self_attn.k_norm.weight", type, width);
            }

            Add(p + "mlp.gate_proj.weight", type, inner, hidden);
            Add(p + "mlp.up_proj.weight", type, inner, hidden);
            Add(p + "mlp.down_proj.weight", type, hidden, inner);
        }

        if (!tied)
        {
            Add("lm_head.weight", type, vocabulary, hidden);
        }
    }

    public string Path { get; }

    public JsonObject Config { get; }

    public Dictionary<string, (string Type, int[] Shape, byte[] Bytes)> Tensors { get; } = [];

    public string WeightsPath => System.IO.Path.Combine(Path, "model.safetensors");

    public void Add(string name, string type, params int[] shape)
    {
        int count = shape.Aggregate(1, (a, b) => a * b);
        byte[] bytes = new byte[count * (type == "F32" ? 4 : 2)];
        for (int i = 0; i < count; i++)
        {
            // Norm scales around 1, matrices around 0, a few of them so small that binary16 holds them as subnormals.
            double value = (_random.NextDouble() - 0.5) * (_random.Next(8) == 0 ? 1e-5 : 0.8);
            float weight = (float)(shape.Length == 1 ? 1 + value : value);
            switch (type)
            {
                case "F32":
                    BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(4 * i), weight);
                    break;
                case "F16":
                    BinaryPrimitives.WriteHalfLittleEndian(bytes.AsSpan(2 * i), (Half)weight);
                    break;
                default:
                    BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(2 * i), (ushort)(BitConverter.SingleToUInt32Bits(weight) >> 16));
                    break;
            }
        }

        Tensors[name] = (type, shape, bytes);
    }

    /// <summary>Writes both files; <paramref name="bend"/> may change the safetensors header before it is written.</summary>
    public TinyCheckpoint Write(Action<JsonObject>? bend = null)
    {
        JsonObject header = Header(Tensors);
        bend?.Invoke(header);
        WriteRaw(header.ToJsonString());
        WriteText("config.json", Config.ToJsonString());
        return this;
    }

    /// <summary>Writes the checkpoint in shards, tensors dealt out in their order, with the index that Hugging Face writes; <paramref name="bend"/> may change its map.</summary>
    public TinyCheckpoint WriteShards(int shards, Action<JsonObject>? bend = null)
    {
        JsonObject map = [];
        foreach (var (tensors, i) in Tensors.Chunk((Tensors.Count + shards - 1) / shards).Select((t, i) => (t, i)))
        {
            string name = ShardName(i, shards);
            WriteFile(System.IO.Path.Combine(Path, name), Header(tensors).ToJsonString(), tensors.SelectMany(t => t.Value.Bytes));
            Array.ForEach(tensors, t => map[t.Key] = name);
        }

        bend?.Invoke(map);
        JsonObject index = new() { ["metadata"] = new JsonObject { ["total_size"] = Tensors.Values.Sum(t => t.Bytes.Length) }, ["weight_map"] = map };
        WriteText("model.safetensors.index.json", index.ToJsonString());
        WriteText("config.json", Config.ToJsonString());
        return this;
    }

    public static string ShardName(int index, int shards) => $"model-{index + 1:d5}-of-{shards:d5}.safetensors";

    /// <summary>Writes the safetensors file with a header of the caller's making.</summary>
    public void WriteRaw(string header) => WriteFile(WeightsPath, header, Tensors.Values.SelectMany(t => t.Bytes));

    public void WriteText(string name, string text) => File.WriteAllText(System.IO.Path.Combine(Path, name), text);

    public LlamaModel Load() => LlamaModel.Load(Path);

    public LlamaFormatException Refused()
    {
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => Load().Dispose());
        Assert.DoesNotContain('\n', error.Message);
        Assert.StartsWith(error.Code, error.Message, StringComparison.Ordinal);
        return error;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);

    private static JsonObject Header(IEnumerable<KeyValuePair<string, (string Type, int[] Shape, byte[] Bytes)>> tensors)
    {
        JsonObject header = new() { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        int offset = 0;
        foreach ((string name, (string type, int[] shape, byte[] bytes)) in tensors)
        {
            header[name] = new JsonObject
            {
                ["dtype"] = type,
                ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]),
                ["data_offsets"] = new JsonArray(offset, offset + bytes.Length),
            };
            offset += bytes.Length;
        }

        return header;
    }

    private static void WriteFile(string path, string header, IEnumerable<byte> data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        byte[] prefix = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)json.Length);
        File.WriteAllBytes(path, [.. prefix, .. json, .. data]);
    }
}
