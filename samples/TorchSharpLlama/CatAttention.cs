using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace TorchSharpLlama;

/// <summary>The model's attention, and how the model is made, with a cache that concatenates or with a paged one: compare the two files.</summary>
internal sealed class CatAttention : Module<Tensor, int, Tensor>
{
    private readonly LlamaConfig _config;
    private readonly int _layer;
    private readonly Linear _wq, _wk, _wv, _wo;
    private readonly CatCache _cache;

    public CatAttention(LlamaConfig config, int layer, CatCache cache)
        : base("attention")
    {
        (_config, _layer, _cache) = (config, layer, cache);
        _wq = LlamaModel.Projection(config.Dim, config.Heads * config.Width, gain: 2);
        _wk = LlamaModel.Projection(config.Dim, config.KvHeads * config.Width, gain: 2);
        _wv = LlamaModel.Projection(config.Dim, config.KvHeads * config.Width);
        _wo = LlamaModel.Projection(config.Heads * config.Width, config.Dim);
        RegisterComponents();
    }

    public static LlamaModel Load(LlamaConfig config)
    {
        var cache = new CatCache(config.Layers);
        return new LlamaModel(config, layer => new CatAttention(config, layer, cache));
    }

    public override Tensor forward(Tensor x, int position)
    {
        (long batch, long tokens) = (x.size(0), x.size(1));
        Tensor q = LlamaModel.Rope(_wq.forward(x).view(batch, tokens, _config.Heads, _config.Width).transpose(1, 2), position);
        Tensor k = LlamaModel.Rope(_wk.forward(x).view(batch, tokens, _config.KvHeads, _config.Width).transpose(1, 2), position);
        Tensor v = _wv.forward(x).view(batch, tokens, _config.KvHeads, _config.Width).transpose(1, 2);
        (k, v) = _cache.Update(k, v, _layer);
        Tensor mask = ones(tokens, k.size(2), ScalarType.Bool).tril(position);
        (k, v) = (k.repeat_interleave(_config.Heads / _config.KvHeads, 1), v.repeat_interleave(_config.Heads / _config.KvHeads, 1));
        Tensor output = functional.scaled_dot_product_attention(q, k, v, mask);
        return _wo.forward(output.transpose(1, 2).reshape(batch, tokens, -1));
    }
}
