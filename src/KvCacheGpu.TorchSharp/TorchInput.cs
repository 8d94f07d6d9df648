using static TorchSharp.torch;

namespace KvCacheGpu;

/// <summary>
/// A tensor that one call reads: as it lies where a <see cref="KvTensor"/> can describe that, else by a dense copy that is disposed after the call. It holds
/// the tensor until then.
/// </summary>
/// <remarks>
/// The copy is disposed while a device may still have to read it. Torch gives its memory only to work that comes later on CUDA's default stream, where steps run too
/// unless the host says otherwise: nothing overwrites it too early.
/// </remarks>
internal readonly ref struct TorchInput : IDisposable
{
    private readonly Tensor _tensor;
    private readonly bool _isCopy;

    public TorchInput(Tensor tensor, string name)
    {
        Given = Layout = TorchLayout.Of(tensor, name);
        _tensor = tensor;
        if (Layout.IsReadable)
        {
            return;
        }

        if (Layout.IsBatched)
        {
            using Tensor tokensFirst = tensor.transpose(1, 2);
            using Tensor dense = tokensFirst.contiguous();
            _tensor = dense.transpose(1, 2);
        }
        else
        {
            _tensor = tensor.contiguous();
        }

        (_isCopy, Layout) = (true, TorchLayout.Of(_tensor, name));
    }

    /// <summary>The layout of the tensor that the host gave.</summary>
    public TorchLayout Given { get; }

    /// <summary>The tensor as the engine takes it.</summary>
    public KvTensor Tensor => Layout.Wrap(_tensor, default);

    private TorchLayout Layout { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_isCopy)
        {
            _tensor.Dispose();
        }

        GC.KeepAlive(_tensor);
    }
}
