using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama;

/// <summary>The parts of a layer that process each token by itself, on all cores.</summary>
internal sealed unsafe class TokenWork(DecoderBuffers buffers, LlamaConfig config) : ParallelWork
{
    private const int ItemTokens = 16;

    private readonly double[] _frequencies = config.Rope.Frequencies(config.HeadWidth);
    private Stage _stage;
    private float[] _scales = [];
    private LlamaLayer? _layer;
    private bool _addDelta;
    private int _tokens;

    private enum Stage
    {
        Normalize,
        Turn,
        Gate,
    }

    /// <summary>Adds the output of the last block to the stream, and norms it for the next.</summary>
    public void Normalize(float[] scales, bool addDelta, int tokens)
    {
        (_scales, _addDelta) = (scales, addDelta);
        Run(Stage.Normalize, tokens);
    }

    /// <summary>Adds the layer's biases and norms its query and key heads, if it has biases and norms, and rotates the heads by their positions.</summary>
    public void Turn(LlamaLayer layer, int tokens)
    {
        _layer = layer;
        Run(Stage.Turn, tokens);
    }

    /// <summary>Applies the gates of tokens.</summary>
    public void Gate(int tokens) => Run(Stage.Gate, tokens);

    /// <summary>Writes the angles of one token, which every layer uses. It computes in binary64, because positions times frequencies grow large.</summary>
    public void SetPosition(int token, int position)
    {
        float* cosines = buffers.Angles + ((nint)token * config.HeadWidth);
        for (int i = 0; i < _frequencies.Length; i++)
        {
            (double sine, double cosine) = Math.SinCos(position * _frequencies[i]);
            cosines[i] = (float)cosine;
            cosines[_frequencies.Length + i] = (float)sine;
        }
    }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        int end = Math.Min((item + 1) * ItemTokens, _tokens);
        for (nint t = item * ItemTokens; t < end; t++)
        {
            switch (_stage)
            {
                case Stage.Normalize:
                    float* residual = buffers.Residual + (t * buffers.Hidden);
                    if (_addDelta)
                    {
                        TokenMath.Add(residual, buffers.Delta + (t * buffers.DeltaStride), buffers.Hidden);
                    }

                    TokenMath.Normalize(residual, _scales, config.NormEpsilon, buffers.Normed + (t * buffers.Hidden));
                    break;
                case Stage.Turn:
                    Turn(_layer!, buffers.Qkv + (t * buffers.QkvStride), buffers.Angles + (t * config.HeadWidth));
                    break;
                default:
                    float* gate = buffers.Gate + (t * buffers.GateStride);
                    TokenMath.Gate(gate, gate + config.IntermediateSize, config.IntermediateSize);
                    break;
            }
        }
    }

    // In a row, key heads follow the query heads, and value heads follow the key heads.
    private void Turn(LlamaLayer layer, float* row, float* angles)
    {
        if (layer.QueryKeyValueBias is { } biases)
        {
            fixed (float* bias = biases)
            {
                TokenMath.Add(row, bias, biases.Length);
            }
        }

        if (layer.QueryNorm is { } queries && layer.KeyNorm is { } keys)
        {
            float* head = row;
            for (int i = 0; i < config.QueryHeads + config.KvHeads; i++, head += config.HeadWidth)
            {
                TokenMath.Normalize(head, i < config.QueryHeads ? queries : keys, config.NormEpsilon, head);
            }
        }

        TokenMath.Rotate(row, config.QueryHeads + config.KvHeads, config.HeadWidth, angles);
    }

    private void Run(Stage stage, int tokens)
    {
        (_stage, _tokens) = (stage, tokens);
        WorkerPool.Shared.Run(this, (tokens + ItemTokens - 1) / ItemTokens);
    }
}
