using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace TorchSharpLlama;

/// <summary>The sizes of a model. The default values make one that is small enough for a test: its weights are random, so what it says means nothing.</summary>
internal sealed record LlamaConfig(int Layers = 3, int Heads = 4, int KvHeads = 2, int Width = 32, int Hidden = 352, int Vocabulary = 256)
{
    /// <summary>Elements of a token's hidden state.</summary>
    public int Dim => Heads * Width;
}

/// <summary>
/// Llama: an embedding, layers of attention and SwiGLU with RMSNorm before each, and logits. What the layers attend with is given to it: the model does not know
/// which cache they have.
/// </summary>
internal sealed class LlamaModel : Module<Tensor, int, Tensor>
{
    private readonly Parameter _embedding;
    private readonly Block[] _blocks;
    private readonly Parameter _norm;
    private readonly Linear _head;

    /// <summary>Makes a model. The same seed makes the same weights.</summary>
    /// <param name="config">Sizes.</param>
    /// <param name="attention">Makes the attention of a layer.</param>
    public LlamaModel(LlamaConfig config, Func<int, Module<Tensor, int, Tensor>> attention)
        : base("llama")
    {
        manual_seed(18);
        _embedding = new Parameter(randn(config.Vocabulary, config.Dim));
        _norm = new Parameter(ones(config.Dim));
        _head = Projection(config.Dim, config.Vocabulary);
        _blocks = [.. Enumerable.Range(0, config.Layers).Select(layer => new Block(config, attention(layer)))];
        for (int layer = 0; layer < config.Layers; layer++)
        {
            register_module($"layers_{layer}", _blocks[layer]);
        }

        RegisterComponents();
    }

    /// <summary>The logits of the last token, <c>[batch, vocabulary]</c>.</summary>
    /// <param name="ids">Token ids, <c>[batch, tokens]</c>.</param>
    /// <param name="position">The position of the first of them.</param>
    public override Tensor forward(Tensor ids, int position)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _embedding[ids];
        foreach (Block block in _blocks)
        {
            x = block.forward(x, position);
        }

        return _head.forward(RmsNorm(x[.., -1], _norm)).MoveToOuterDisposeScope();
    }

    /// <summary>A linear layer, with weights that keep the size of what goes through it.</summary>
    public static Linear Projection(int from, int to, double gain = 1)
    {
        Linear linear = Linear(from, to, hasBias: false);
        init.normal_(linear.weight, 0, gain / Math.Sqrt(from));
        return linear;
    }

    /// <summary>Turns queries or keys <c>[batch, heads, tokens, width]</c> by their positions (RoPE).</summary>
    public static Tensor Rope(Tensor x, int position)
    {
        long tokens = x.size(2), width = x.size(3);
        Tensor frequencies = pow(10000f, arange(0, width, 2, ScalarType.Float32) / -width);
        Tensor angles = outer(arange(position, position + tokens, ScalarType.Float32), frequencies);
        Tensor both = cat([angles, angles], -1);
        Tensor[] halves = x.chunk(2, -1);
        return (x * both.cos()) + (cat([-halves[1], halves[0]], -1) * both.sin());
    }

    private static Tensor RmsNorm(Tensor x, Tensor weight) => x * (x.square().mean([-1], keepdim: true) + 1e-5).rsqrt() * weight;

    private sealed class Block : Module<Tensor, int, Tensor>
    {
        private readonly Module<Tensor, int, Tensor> _attention;
        private readonly Linear _gate, _up, _down;
        private readonly Parameter _attentionNorm, _feedForwardNorm;

        public Block(LlamaConfig config, Module<Tensor, int, Tensor> attention)
            : base("block")
        {
            _attention = attention;
            (_gate, _up) = (Projection(config.Dim, config.Hidden), Projection(config.Dim, config.Hidden));
            _down = Projection(config.Hidden, config.Dim);
            (_attentionNorm, _feedForwardNorm) = (new Parameter(ones(config.Dim)), new Parameter(ones(config.Dim)));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x, int position)
        {
            x = x + _attention.forward(RmsNorm(x, _attentionNorm), position);
            Tensor y = RmsNorm(x, _feedForwardNorm);
            return x + _down.forward(functional.silu(_gate.forward(y)) * _up.forward(y));
        }
    }
}
