using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;
using Half = System.Half;

namespace KvCacheGpu;

/// <summary>
/// How the elements of a tensor lie: <c>[tokens][heads][width]</c>, or <c>[batch][heads][tokens][width]</c> as models with a batch dimension have it. The
/// latter are the tokens of one sequence after those of the other.
/// </summary>
internal readonly struct TorchLayout
{
    private TorchLayout(Tensor tensor, TensorType type)
    {
        bool batched = tensor.ndim == 4;
        (IsBatched, Type, IsOnCuda) = (batched, type, tensor.device_type == DeviceType.CUDA);
        (Batch, BatchStride) = batched ? (tensor.size(0), tensor.stride(0)) : (1, 0);
        (int tokens, int heads, int width) = batched ? (2, 1, 3) : (0, 1, 2);
        (Tokens, TokenStride) = (tensor.size(tokens), tensor.stride(tokens));
        (Heads, HeadStride) = (tensor.size(heads), tensor.stride(heads));
        (Width, WidthStride) = (tensor.size(width), tensor.stride(width));
    }

    /// <summary>True for <c>[batch, heads, tokens, width]</c>.</summary>
    public bool IsBatched { get; }

    /// <summary>Element type.</summary>
    public TensorType Type { get; }

    /// <summary>True if the elements lie on a CUDA device.</summary>
    public bool IsOnCuda { get; }

    /// <summary>Sequences: 1 without a batch dimension.</summary>
    public long Batch { get; }

    /// <summary>Tokens of each sequence.</summary>
    public long Tokens { get; }

    /// <summary>Heads.</summary>
    public long Heads { get; }

    /// <summary>Elements of a vector.</summary>
    public long Width { get; }

    /// <summary>
    /// True if a <see cref="KvTensor"/> can describe the elements where they lie: vectors are dense and do not overlap, and one stride leads from each token
    /// to the next, also from the last one of a sequence to the first one of the next sequence.
    /// </summary>
    public bool IsReadable =>
        (Width == 1 || WidthStride == 1) && HeadStep >= Width && TokenStep >= Width && HeadStep <= int.MaxValue && TokenStep <= int.MaxValue
        && (Batch == 1 || Tokens == 1 || BatchStride == Tokens * TokenStride);

    /// <summary>True if the elements lie side by side in the order <c>[batch][tokens][heads][width]</c>, as attention writes them.</summary>
    public bool IsDense => IsReadable && HeadStep == Width && TokenStep == Heads * Width;

    private long BatchStride { get; }

    private long TokenStride { get; }

    private long HeadStride { get; }

    private long WidthStride { get; }

    // The stride of a dimension of one element says nothing.
    private long HeadStep => Heads > 1 ? HeadStride : Width;

    private long TokenStep => Tokens > 1 ? TokenStride : Batch > 1 ? BatchStride : Heads * HeadStep;

    /// <summary>Reads how a tensor lies, and refuses one whose elements cannot be read.</summary>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    /// <exception cref="ArgumentException">Another type, layout, device or number of dimensions, no tokens, or a tensor that torch computes gradients for.</exception>
    public static TorchLayout Of(Tensor tensor, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        ObjectDisposedException.ThrowIf(tensor.IsInvalid, tensor);
        TensorType type = tensor.dtype switch
        {
            ScalarType.Float32 => TensorType.F32,
            ScalarType.Float16 => TensorType.F16,
            ScalarType.BFloat16 => TensorType.BF16,
            _ => throw Refused(name, "float32, float16 or bfloat16", $"{tensor.dtype}"),
        };
        if (tensor.device_type is not (DeviceType.CPU or DeviceType.CUDA))
        {
            throw Refused(name, "a tensor on cpu or cuda", $"one on {tensor.device_type.ToString().ToLowerInvariant()}");
        }

        if (tensor.is_sparse || tensor.is_neg())
        {
            throw Refused(name, "elements in memory", tensor.is_sparse ? "a sparse tensor (to_dense())" : "a view of another sign (resolve_neg())");
        }

        if (tensor.requires_grad)
        {
            throw Refused(name, "a tensor without gradient", "one that requires it: compute it inside of torch.no_grad(), or detach() it");
        }

        if (tensor.ndim is not (3 or 4) || tensor.numel() == 0)
        {
            throw Refused(name, "[tokens, heads, width] or [batch, heads, tokens, width], none of them 0", $"[{string.Join(", ", tensor.shape)}]");
        }

        return new TorchLayout(tensor, type);
    }

    /// <summary>Refuses a shape.</summary>
    public static ArgumentException Refused(string name, string expected, string actual) => new($"{name}: expected {expected}, got {actual}", name);

    /// <summary>Describes the elements of the tensor that the layout was read of. It must be readable, and stay alive while the description is used.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="stream">The CUDA stream that writes it; the default value is torch's, which is CUDA's default stream: TorchSharp has no others.</param>
    public unsafe KvTensor Wrap(Tensor tensor, KvStream stream)
    {
        long length = (((Batch * Tokens) - 1) * TokenStep) + ((Heads - 1) * HeadStep) + Width;
        (int token, int head) = ((int)TokenStep, (int)HeadStep);
        void* first = TorchMemory.FirstElement(tensor);
        if (IsOnCuda)
        {
            return KvTensor.FromDevicePointer((nint)first, Type, length, token, head, stream.IsDefault ? KvStream.FromCuda(0) : stream);
        }

        int elements = TorchMemory.SpanLength(length);
        return Type switch
        {
            TensorType.F32 => KvTensor.FromHost(new ReadOnlySpan<float>(first, elements), token, head),
            TensorType.F16 => KvTensor.FromHost(new ReadOnlySpan<Half>(first, elements), token, head),
            _ => KvTensor.FromHostBFloat16(new ReadOnlySpan<ushort>(first, elements), token, head),
        };
    }
}

/// <summary>The memory of tensors.</summary>
internal static unsafe class TorchMemory
{
    // TorchSharp's own accessors refuse CUDA. Its native library exports what they call; the handle that it takes is public.
    private static readonly delegate* unmanaged<nint, void*> DataOf = (delegate* unmanaged<nint, void*>)NativeLibrary.GetExport(
        NativeLibrary.Load("LibTorchSharp", typeof(Tensor).Assembly, null), "THSTensor_data");

    /// <summary>The address of a tensor's first element, on the tensor's device.</summary>
    public static void* FirstElement(Tensor tensor)
    {
        void* first = DataOf(tensor.Handle);
        return first != null ? first : throw new ArgumentException("expected a tensor with memory, got one that torch gives no address of", nameof(tensor));
    }

    /// <summary>A length of host memory as spans count it: up to 2 GiB of binary32 elements.</summary>
    public static int SpanLength(long elements) => elements <= int.MaxValue / sizeof(float)
        ? (int)elements
        : throw new ArgumentException($"expected a tensor that spans at most {int.MaxValue / sizeof(float)} elements of host memory, got {elements}");
}
