using System.Buffers.Binary;
using System.Text.Json;

namespace KvCacheGpu.Llama.Tests;

/// <summary>
/// The oracle: the forward pass of Llama and its kin in binary64 with loops, from the files alone. Shares no code with the library, keeps no cache,
/// and computes attention by its definition.
/// </summary>
internal sealed class PlainLlama
{
    private readonly Dictionary<string, double[]> _tensors = [];
    private readonly JsonElement _config;

    public PlainLlama(string directory)
    {
        _config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "config.json"))).RootElement;
        foreach (string path in Directory.GetFiles(directory, "*.safetensors"))
        {
            ReadTensors(File.ReadAllBytes(path));
        }
    }

    private void ReadTensors(byte[] file)
    {
        int header = (int)BinaryPrimitives.ReadUInt64LittleEndian(file);
        foreach (JsonProperty tensor in JsonDocument.Parse(file.AsMemory(8, header)).RootElement.EnumerateObject())
        {
            if (tensor.Name == "__metadata__")
            {
                continue;
            }

            int begin = 8 + header + tensor.Value.GetProperty("data_offsets")[0].GetInt32();
            int end = 8 + header + tensor.Value.GetProperty("data_offsets")[1].GetInt32();
            _tensors[tensor.Name] = Read(file.AsSpan(begin, end - begin), tensor.Value.GetProperty("dtype").GetString()!);
        }
    }

    private int Layers => Int("num_hidden_layers");

    private int Hidden => Int("hidden_size");

    private int Heads => Int("num_attention_heads");

    private int KvHeads => _config.TryGetProperty("num_key_value_heads", out JsonElement heads) ? heads.GetInt32() : Heads;

    private int Width => _config.TryGetProperty("head_dim", out JsonElement width) ? width.GetInt32() : Hidden / Heads;

    private double Theta => _config.TryGetProperty("rope_theta", out JsonElement theta) ? theta.GetDouble() : 10_000;

    private bool Tied => _config.TryGetProperty("tie_word_embeddings", out JsonElement tied) && tied.GetBoolean();

    /// <summary>Logits [tokens][vocabulary].</summary>
    public double[][] Logits(int[] ids)
    {
        double[] embedding = _tensors["model.embed_tokens.weight"];
        double[][] x = [.. ids.Select(id => embedding[(id * Hidden)..((id + 1) * Hidden)])];
        for (int layer = 0; layer < Layers; layer++)
        {
            string p = $"model.layers.{layer}.";
            double[][] h = Norm(x, p + "input_layernorm.weight");
            double[][] q = Times(p + "self_attn.q_proj.weight", h), k = Times(p + "self_attn.k_proj.weight", h);
            double[][] v = Times(p + "self_attn.v_proj.weight", h);
            (q, k, v) = (Biased(q, p + "self_attn.q_proj.bias"), Biased(k, p + "self_attn.k_proj.bias"), Biased(v, p + "self_attn.v_proj.bias"));
            (q, k) = (NormHeads(q, p + "self_attn.q_norm.weight"), NormHeads(k, p + "self_attn.k_norm.weight"));
            Turn(q);
            Turn(k);
            x = Sum(x, Times(p + "self_attn.o_proj.weight", Attention(q, k, v, Window(layer))));
            h = Norm(x, p + "post_attention_layernorm.weight");
            double[][] gate = Times(p + "mlp.gate_proj.weight", h), up = Times(p + "mlp.up_proj.weight", h);
            double[][] inner = [.. gate.Zip(up, (g, u) => g.Zip(u, (a, b) => a / (1 + Math.Exp(-a)) * b).ToArray())];
            x = Sum(x, Times(p + "mlp.down_proj.weight", inner));
        }

        return Times(Tied ? "model.embed_tokens.weight" : "lm_head.weight", Norm(x, "model.norm.weight"));
    }

    private static double[][] Sum(double[][] a, double[][] b) => [.. a.Zip(b, (r, s) => r.Zip(s, (u, v) => u + v).ToArray())];

    private static double[] Read(ReadOnlySpan<byte> bytes, string type)
    {
        int size = type == "F32" ? 4 : 2;
        double[] values = new double[bytes.Length / size];
        for (int i = 0; i < values.Length; i++)
        {
            ReadOnlySpan<byte> element = bytes.Slice(i * size, size);
            values[i] = type switch
            {
                "F32" => BinaryPrimitives.ReadSingleLittleEndian(element),
                "F16" => (double)BinaryPrimitives.ReadHalfLittleEndian(element),
                "BF16" => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadInt16LittleEndian(element) << 16),
                _ => throw new NotSupportedException(type),
            };
        }

        return values;
    }

    private int Int(string key) => _config.GetProperty(key).GetInt32();

    private double[][] Norm(double[][] rows, string name)
    {
        double[] scale = _tensors[name];
        double epsilon = _config.GetProperty("rms_norm_eps").GetDouble();
        return [.. rows.Select(r =>
        {
            double root = Math.Sqrt((r.Sum(v => v * v) / r.Length) + epsilon);
            return r.Select((v, i) => v / root * scale[i]).ToArray();
        })];
    }

    private double[][] Biased(double[][] rows, string name) =>
        _tensors.TryGetValue(name, out double[]? bias) ? [.. rows.Select(r => r.Zip(bias, (v, b) => v + b).ToArray())] : rows;

    private double[][] NormHeads(double[][] rows, string name) =>
        _tensors.ContainsKey(name) ? [.. rows.Select(r => r.Chunk(Width).SelectMany(head => Norm([head], name)[0]).ToArray())] : rows;

    // Mistral windows every layer, Qwen those from max_window_layers on, or by their types.
    private int Window(int layer)
    {
        string type = _config.GetProperty("model_type").GetString()!;
        if (!_config.TryGetProperty("sliding_window", out JsonElement window) || window.ValueKind == JsonValueKind.Null)
        {
            return int.MaxValue;
        }

        bool qwen = type.StartsWith("qwen", StringComparison.Ordinal) && _config.TryGetProperty("use_sliding_window", out JsonElement used) && used.GetBoolean()
            && (_config.TryGetProperty("layer_types", out JsonElement types) ? types[layer].GetString() == "sliding_attention" : layer >= Int("max_window_layers"));
        return type == "mistral" || qwen ? window.GetInt32() : int.MaxValue;
    }

    // Transformers' words: wavelengths, and a smooth factor between two of them.
    private double Frequency(int i)
    {
        double frequency = 1 / Math.Pow(Theta, 2.0 * i / Width);
        if (!_config.TryGetProperty("rope_scaling", out JsonElement scaling))
        {
            return frequency;
        }

        double Of(string key) => scaling.GetProperty(key).GetDouble();
        if (scaling.GetProperty("rope_type").GetString() == "linear")
        {
            return frequency / Of("factor");
        }

        double context = Of("original_max_position_embeddings"), wavelength = 2 * Math.PI / frequency;
        double smooth = ((context / wavelength) - Of("low_freq_factor")) / (Of("high_freq_factor") - Of("low_freq_factor"));
        return wavelength < context / Of("high_freq_factor") ? frequency
            : wavelength > context / Of("low_freq_factor") ? frequency / Of("factor")
            : ((1 - smooth) * frequency / Of("factor")) + (smooth * frequency);
    }

    private double[][] Times(string name, double[][] rows)
    {
        double[] w = _tensors[name];
        int inputs = rows[0].Length;
        return [.. rows.AsParallel().AsOrdered().Select(row =>
        {
            double[] y = new double[w.Length / inputs];
            for (int o = 0; o < y.Length; o++)
            {
                double sum = 0;
                for (int i = 0; i < inputs; i++)
                {
                    sum += w[(o * inputs) + i] * row[i];
                }

                y[o] = sum;
            }

            return y;
        })];
    }

    private void Turn(double[][] rows)
    {
        int half = Width / 2;
        for (int t = 0; t < rows.Length; t++)
        {
            for (int start = 0; start < rows[t].Length; start += Width)
            {
                for (int i = 0; i < half; i++)
                {
                    double angle = t * Frequency(i);
                    double a = rows[t][start + i], b = rows[t][start + half + i];
                    rows[t][start + i] = (a * Math.Cos(angle)) - (b * Math.Sin(angle));
                    rows[t][start + half + i] = (b * Math.Cos(angle)) + (a * Math.Sin(angle));
                }
            }
        }
    }

    private double[][] Attention(double[][] q, double[][] k, double[][] v, int window)
    {
        double[][] output = [.. q.Select(_ => new double[Heads * Width])];
        for (int t = 0; t < q.Length; t++)
        {
            for (int head = 0; head < Heads; head++)
            {
                int own = head * Width, shared = head / (Heads / KvHeads) * Width;
                double[] weights = [.. Enumerable.Range(0, t + 1).Select(s => s <= t - window ? 0 :
                    Math.Exp(Enumerable.Range(0, Width).Sum(i => q[t][own + i] * k[s][shared + i]) / Math.Sqrt(Width)))];
                double total = weights.Sum();
                for (int s = 0; s <= t; s++)
                {
                    for (int i = 0; i < Width; i++)
                    {
                        output[t][own + i] += weights[s] / total * v[s][shared + i];
                    }
                }
            }
        }

        return output;
    }
}
