using static TorchSharp.torch;

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

    /// <summary>Runs attention into a dense tensor.</summary>
    public static unsafe void Attend(KvStep step, int layer, KvTensor queries, Tensor dense, int window)
    {
        using Tensor floats = dense.dtype == ScalarType.Float32 ? dense.alias() : empty_like(dense, ScalarType.Float32);
        step.Attend(layer, queries, new Span<float>(TorchMemory.FirstElement(floats), TorchMemory.SpanLength(floats.numel())), window);
        if (dense.dtype != ScalarType.Float32)
        {
            dense.copy_(floats);
        }
    }
}
