namespace KvCacheGpu;

/// <summary>Which layers something was done for.</summary>
internal sealed class LayerSet(int layers)
{
    private readonly bool[] _layers = new bool[layers];

    public bool this[int layer] => _layers[layer];

    public bool Any => Array.IndexOf(_layers, true) >= 0;

    public void Add(int layer) => _layers[layer] = true;

    public void Clear() => Array.Clear(_layers);

    public void CopyFrom(LayerSet other) => other._layers.CopyTo(_layers, 0);
}
