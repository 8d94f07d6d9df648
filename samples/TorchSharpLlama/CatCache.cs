using static TorchSharp.torch;

namespace TorchSharpLlama;

/// <summary>The usual cache of a torch model: for each layer a tensor of keys and one of values, which are copied into longer ones with every token.</summary>
internal sealed class CatCache(int layers)
{
    private readonly Tensor?[] _keys = new Tensor?[layers];
    private readonly Tensor?[] _values = new Tensor?[layers];

    /// <summary>Stores a layer's new keys and values, <c>[batch, KV heads, tokens, width]</c>, and returns those of all tokens.</summary>
    public (Tensor Keys, Tensor Values) Update(Tensor keys, Tensor values, int layer) => (Grow(ref _keys[layer], keys), Grow(ref _values[layer], values));

    private static Tensor Grow(ref Tensor? stored, Tensor added)
    {
        using Tensor? old = stored;
        return stored = (old is null ? added.alias() : cat([old, added], 2)).DetachFromDisposeScope();
    }
}
