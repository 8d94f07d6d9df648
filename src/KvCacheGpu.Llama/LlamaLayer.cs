namespace KvCacheGpu.Llama;

/// <summary>The weights of one decoder layer. Matrices with the same input are stacked to one.</summary>
internal sealed class LlamaLayer : IDisposable
{
    private LlamaLayer(PackedMatrix queryKeyValue, PackedMatrix output, PackedMatrix gateUp, PackedMatrix down) =>
        (QueryKeyValue, Output, GateUp, Down) = (queryKeyValue, output, gateUp, down);

    /// <summary>Scales of the norm before attention.</summary>
    public required float[] AttentionNorm { get; init; }

    /// <summary>Rows: all query heads, all key heads, all value heads.</summary>
    public PackedMatrix QueryKeyValue { get; }

    /// <summary>Biases of all these rows; null if the architecture has none.</summary>
    public float[]? QueryKeyValueBias { get; private init; }

    /// <summary>Scales of each query head's norm; null if the architecture has none.</summary>
    public float[]? QueryNorm { get; private init; }

    /// <summary>Scales of each key head's norm; null if the architecture has none.</summary>
    public float[]? KeyNorm { get; private init; }

    /// <summary>The matrix from the attention's output to the residual stream.</summary>
    public PackedMatrix Output { get; }

    /// <summary>Scales of the norm before the feed-forward block.</summary>
    public required float[] FeedForwardNorm { get; init; }

    /// <summary>Rows: the gate, then the vector that it gates.</summary>
    public PackedMatrix GateUp { get; }

    /// <summary>The matrix from the inner width of the feed-forward block to the residual stream.</summary>
    public PackedMatrix Down { get; }

    /// <summary>Bytes of the layer's matrices.</summary>
    public long Bytes => QueryKeyValue.Bytes + Output.Bytes + GateUp.Bytes + Down.Bytes;

    /// <summary>Reads layer <paramref name="index"/> under its Hugging Face names.</summary>
    public static LlamaLayer Load(WeightFiles files, LlamaConfig config, int index)
    {
        string prefix = $"model.layers.{index}.";
        string attention = prefix + "self_attn.";
        string feedForward = prefix + "mlp.";
        (int hidden, int inner, int width) = (config.HiddenSize, config.IntermediateSize, config.HeadWidth);
        (int queries, int keys) = (config.QueryHeads * width, config.KvHeads * width);
        float[] Vector(string name, int length) => WeightReader.Vector(files, name, length);
        List<PackedMatrix> loaded = [];
        try
        {
            loaded.Add(PackedMatrix.Load(
                files, hidden, (attention + "q_proj.weight", queries), (attention + "k_proj.weight", keys), (attention + "v_proj.weight", keys)));
            loaded.Add(PackedMatrix.Load(files, queries, (attention + "o_proj.weight", hidden)));
            loaded.Add(PackedMatrix.Load(files, hidden, (feedForward + "gate_proj.weight", inner), (feedForward + "up_proj.weight", inner)));
            loaded.Add(PackedMatrix.Load(files, inner, (feedForward + "down_proj.weight", hidden)));
            return new LlamaLayer(loaded[0], loaded[1], loaded[2], loaded[3])
            {
                AttentionNorm = Vector(prefix + "input_layernorm.weight", hidden),
                FeedForwardNorm = Vector(prefix + "post_attention_layernorm.weight", hidden),
                QueryKeyValueBias = config.Architecture.QueryKeyValueBias
                    ? [.. Vector(attention + "q_proj.bias", queries), .. Vector(attention + "k_proj.bias", keys), .. Vector(attention + "v_proj.bias", keys)]
                    : null,
                QueryNorm = config.Architecture.QueryKeyNorm ? Vector(attention + "q_norm.weight", width) : null,
                KeyNorm = config.Architecture.QueryKeyNorm ? Vector(attention + "k_norm.weight", width) : null,
            };
        }
        catch
        {
            loaded.ForEach(m => m.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        QueryKeyValue.Dispose();
        Output.Dispose();
        GateUp.Dispose();
        Down.Dispose();
    }
}
