namespace KvCacheGpu.Llama;

/// <summary>One decoder layer's weights. Matrices with the same input lie in one, below each other.</summary>
internal sealed class LlamaLayer : IDisposable
{
    private LlamaLayer(float[] attentionNorm, PackedMatrix queryKeyValue, PackedMatrix output, float[] feedForwardNorm, PackedMatrix gateUp, PackedMatrix down)
    {
        (AttentionNorm, QueryKeyValue, Output) = (attentionNorm, queryKeyValue, output);
        (FeedForwardNorm, GateUp, Down) = (feedForwardNorm, gateUp, down);
    }

    /// <summary>Scales of the norm before attention.</summary>
    public float[] AttentionNorm { get; }

    /// <summary>Rows: all query heads, all key heads, all value heads.</summary>
    public PackedMatrix QueryKeyValue { get; }

    /// <summary>From the attention's output back to the residual stream.</summary>
    public PackedMatrix Output { get; }

    /// <summary>Scales of the norm before the feed-forward block.</summary>
    public float[] FeedForwardNorm { get; }

    /// <summary>Rows: the gate, then what it gates.</summary>
    public PackedMatrix GateUp { get; }

    /// <summary>From inside the feed-forward block back to the residual stream.</summary>
    public PackedMatrix Down { get; }

    /// <summary>Bytes of the layer's matrices.</summary>
    public long Bytes => QueryKeyValue.Bytes + Output.Bytes + GateUp.Bytes + Down.Bytes;

    /// <summary>Reads layer <paramref name="index"/> under its Hugging Face names.</summary>
    public static LlamaLayer Load(SafetensorsFile file, LlamaConfig config, int index)
    {
        string prefix = $"model.layers.{index}.";
        int hidden = config.HiddenSize;
        int queries = config.QueryHeads * config.HeadWidth;
        int keys = config.KvHeads * config.HeadWidth;
        int inner = config.IntermediateSize;
        List<PackedMatrix> loaded = [];
        try
        {
            float[] attentionNorm = WeightReader.Vector(file, prefix + "input_layernorm.weight", hidden);
            float[] feedForwardNorm = WeightReader.Vector(file, prefix + "post_attention_layernorm.weight", hidden);
            string attention = prefix + "self_attn.";
            string feedForward = prefix + "mlp.";
            loaded.Add(PackedMatrix.Load(
                file, hidden, (attention + "q_proj.weight", queries), (attention + "k_proj.weight", keys), (attention + "v_proj.weight", keys)));
            loaded.Add(PackedMatrix.Load(file, queries, (attention + "o_proj.weight", hidden)));
            loaded.Add(PackedMatrix.Load(file, hidden, (feedForward + "gate_proj.weight", inner), (feedForward + "up_proj.weight", inner)));
            loaded.Add(PackedMatrix.Load(file, inner, (feedForward + "down_proj.weight", hidden)));
            return new LlamaLayer(attentionNorm, loaded[0], loaded[1], feedForwardNorm, loaded[2], loaded[3]);
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
