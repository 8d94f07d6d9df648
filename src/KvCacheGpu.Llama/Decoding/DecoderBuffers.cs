namespace KvCacheGpu.Llama;

/// <summary>A decoder's working memory, allocated once: all intermediate results between the tokens of a step and their logits.</summary>
internal sealed unsafe class DecoderBuffers : IDisposable
{
    /// <summary>Number of tokens whose logits are computed at a time.</summary>
    public const int LogitTokens = 32;

    private readonly AlignedMemory _memory;

    /// <summary>Allocates memory for steps of up to <paramref name="tokens"/> tokens.</summary>
    public DecoderBuffers(LlamaModel model, int tokens)
    {
        LlamaConfig config = model.Config;
        LlamaLayer layer = model.Layers[0];
        Tokens = tokens;
        Hidden = config.HiddenSize;
        DeltaStride = layer.Output.PaddedRows;
        QkvStride = layer.QueryKeyValue.PaddedRows;
        GateStride = layer.GateUp.PaddedRows;
        AttendedStride = config.QueryHeads * config.HeadWidth;
        LogitStride = model.Head.PaddedRows;
        long floats = (long)tokens * (Hidden + Hidden + DeltaStride + QkvStride + GateStride + AttendedStride + config.HeadWidth)
            + ((long)Math.Min(tokens, LogitTokens) * LogitStride);
        _memory = new AlignedMemory(floats * sizeof(float));
        float* next = _memory.Floats;
        Residual = Take(ref next, Hidden);
        Normed = Take(ref next, Hidden);
        Delta = Take(ref next, DeltaStride);
        Qkv = Take(ref next, QkvStride);
        Gate = Take(ref next, GateStride);
        Attended = Take(ref next, AttendedStride);
        Angles = Take(ref next, config.HeadWidth);
        Logits = next;
    }

    /// <summary>The most tokens of a step.</summary>
    public int Tokens { get; }

    /// <summary>Width of <see cref="Residual"/> and <see cref="Normed"/>.</summary>
    public int Hidden { get; }

    /// <summary>Elements from one token to the next in <see cref="Delta"/>.</summary>
    public int DeltaStride { get; }

    /// <summary>Elements from one token to the next in <see cref="Qkv"/>.</summary>
    public int QkvStride { get; }

    /// <summary>Elements from one token to the next in <see cref="Gate"/>.</summary>
    public int GateStride { get; }

    /// <summary>Elements from one token to the next in <see cref="Attended"/>.</summary>
    public int AttendedStride { get; }

    /// <summary>Elements from one token to the next in <see cref="Logits"/>.</summary>
    public int LogitStride { get; }

    /// <summary>The residual stream <c>[tokens][hidden]</c>.</summary>
    public float* Residual { get; }

    /// <summary>The normed residual stream, which is the input of the next matrix.</summary>
    public float* Normed { get; }

    /// <summary>The output of a block, which is added to the residual stream.</summary>
    public float* Delta { get; }

    /// <summary>Queries, keys and values side by side.</summary>
    public float* Qkv { get; }

    /// <summary>The gate and the vector that it gates, side by side; their product replaces the gate.</summary>
    public float* Gate { get; }

    /// <summary>The output of attention, <c>[tokens][query heads][width]</c>.</summary>
    public float* Attended { get; }

    /// <summary>Cosines, then sines, of each token's angles.</summary>
    public float* Angles { get; }

    /// <summary>Logits of up to <see cref="LogitTokens"/> tokens.</summary>
    public float* Logits { get; }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private float* Take(ref float* next, int width)
    {
        float* taken = next;
        next += (long)Tokens * width;
        return taken;
    }
}
