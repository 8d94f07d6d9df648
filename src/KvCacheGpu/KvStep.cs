using ILGPU;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>One forward pass.</summary>
public sealed class KvStep : IDisposable
{
    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens => throw new NotImplementedException();

    /// <summary>Writes keys <c>[tokens][KV heads][key width]</c> and values of the next layer.</summary>
    public void Append(int layer, KvTensor keys, KvTensor values) => throw new NotImplementedException();

    /// <summary>Attention of queries <c>[tokens][query heads][key width]</c>.</summary>
    public void Attend(int layer, KvTensor queries, Span<float> output, Span<float> logSumExp = default) => throw new NotImplementedException();

    /// <summary>The same with the output left on the device.</summary>
    public void Attend(int layer, KvTensor queries, ArrayView<float> output, ArrayView<float> logSumExp = default) => throw new NotImplementedException();

    /// <summary>Publishes the step.</summary>
    public void Commit() => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
