using static TorchSharp.torch;
using Half = System.Half;

namespace KvCacheGpu;

/// <summary>Tensors that the engine writes to: dense, <c>[tokens][heads][width]</c> or <c>[batch][tokens][heads][width]</c>.</summary>
internal static class TorchOutput
{
    /// <summary>Makes a tensor of the type and device of another one, and of its dimensions but for those that are given.</summary>
    /// <param name="like">The tensor.</param>
    /// <param name="layout">Its layout.</param>
    /// <param name="tokens">Tokens of each sequence.</param>
    /// <param name="width">Elements of a vector.</param>
    public static Tensor Dense(Tensor like, in TorchLayout layout, long tokens, long width) => layout.IsBatched
        ? empty(layout.Batch, tokens, layout.Heads, width, like.dtype, like.device)
        : empty(tokens, layout.Heads, width, like.dtype, like.device);

    /// <summary>Shows a dense tensor in the layout that the host uses, and takes its place.</summary>
    public static Tensor InLayout(Tensor dense, in TorchLayout layout)
    {
        if (!layout.IsBatched)
        {
            return dense;
        }

        using (dense)
        {
            return dense.transpose(1, 2);
        }
    }

    /// <summary>Describes a dense tensor to the engine, which writes to it. It must stay alive until the call has ended; on cuda, until the work of its stream has.</summary>
    /// <param name="dense">The tensor.</param>
    /// <param name="layout">Its layout, or that of a tensor of the same type and device.</param>
    public static unsafe KvOutput Wrap(Tensor dense, in TorchLayout layout)
    {
        void* first = TorchMemory.FirstElement(dense);
        long length = dense.numel();
        if (layout.IsOnCuda)
        {
            return KvOutput.FromDevicePointer((nint)first, layout.Type, length);
        }

        int elements = TorchMemory.SpanLength(length);
        return layout.Type switch
        {
            TensorType.F32 => KvOutput.FromHost(new Span<float>(first, elements)),
            TensorType.F16 => KvOutput.FromHost(new Span<Half>(first, elements)),
            _ => KvOutput.FromHostBFloat16(new Span<ushort>(first, elements)),
        };
    }
}
