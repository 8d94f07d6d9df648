using System.Runtime.InteropServices;
using ILGPU;
using Half = System.Half;

namespace KvCacheGpu;

/// <summary>Element type of a <see cref="KvTensor"/>.</summary>
public enum TensorType : byte
{
    /// <summary>IEEE binary32.</summary>
    F32,

    /// <summary>IEEE binary16.</summary>
    F16,

    /// <summary>bfloat16 bits in 16-bit integers.</summary>
    BF16,
}

/// <summary>
/// Keys, values or queries as a host framework holds them: <c>[tokens][heads][width]</c>, elements of a vector side by side,
/// tokens and heads at any stride, in host memory or on the device. Nothing is copied to make one.
/// </summary>
/// <remarks>
/// Keys and queries come as attention multiplies them: the host has turned them by their positions (RoPE), and normed them where the model does, before
/// it appends the keys or asks with the queries. Only <see cref="KvGeometry.AttentionScale"/> and <see cref="KvGeometry.LogitSoftCap"/> are applied inside.
/// Thread safety: it stays on the stack of one thread, and the memory that it wraps must not change until the call has read it.
/// </remarks>
public readonly ref struct KvTensor
{
    private readonly long _pointerBytes;

    private KvTensor(ReadOnlySpan<byte> host, ArrayView<byte> device, nint pointer, long pointerBytes, TensorType type, int tokenStride, int headStride, KvStream stream, bool onDevice)
    {
        Host = host;
        Device = device;
        DevicePointer = pointer;
        _pointerBytes = pointerBytes;
        IsOnDevice = onDevice;
        Type = type;
        TokenStride = tokenStride;
        HeadStride = headStride;
        Stream = stream;
    }

    /// <summary>The elements in host memory, as bytes; empty for a device tensor.</summary>
    public ReadOnlySpan<byte> Host { get; }

    /// <summary>The elements on the device, as bytes; not valid for a host tensor, nor for one that was given by its address.</summary>
    public ArrayView<byte> Device { get; }

    /// <summary>The address of the first element on the device, if the tensor was given by it; else 0.</summary>
    public nint DevicePointer { get; }

    /// <summary>True if the elements lie on the device.</summary>
    public bool IsOnDevice { get; }

    /// <summary>Element type.</summary>
    public TensorType Type { get; }

    /// <summary>Elements from one token to the next; 0 means dense, heads * width.</summary>
    public int TokenStride { get; }

    /// <summary>Elements from one head to the next; 0 means dense, width.</summary>
    public int HeadStride { get; }

    /// <summary>The stream that writes the tensor: the work that reads it is enqueued behind it. The default value: nothing is pending, or it is the step's own.</summary>
    public KvStream Stream { get; }

    /// <summary>Bytes of one element.</summary>
    public int ElementBytes => Type == TensorType.F32 ? 4 : 2;

    /// <summary>Elements that the tensor spans.</summary>
    public long Length => (DevicePointer != 0 ? _pointerBytes : IsOnDevice ? Device.Length : Host.Length) / ElementBytes;

    /// <summary>Wraps binary32 elements in host memory.</summary>
    public static KvTensor FromHost(ReadOnlySpan<float> elements, int tokenStride = 0, int headStride = 0) =>
        new(MemoryMarshal.AsBytes(elements), default, 0, 0, TensorType.F32, tokenStride, headStride, default, false);

    /// <summary>Wraps binary16 elements in host memory.</summary>
    public static KvTensor FromHost(ReadOnlySpan<Half> elements, int tokenStride = 0, int headStride = 0) =>
        new(MemoryMarshal.AsBytes(elements), default, 0, 0, TensorType.F16, tokenStride, headStride, default, false);

    /// <summary>Wraps bfloat16 bits in host memory.</summary>
    public static KvTensor FromHostBFloat16(ReadOnlySpan<ushort> bits, int tokenStride = 0, int headStride = 0) =>
        new(MemoryMarshal.AsBytes(bits), default, 0, 0, TensorType.BF16, tokenStride, headStride, default, false);

    /// <summary>Wraps binary32 elements on the cache's own device.</summary>
    /// <inheritdoc cref="FromDevice(ArrayView{byte}, TensorType, int, int, KvStream)" path="/param"/>
    public static KvTensor FromDevice(ArrayView<float> elements, int tokenStride = 0, int headStride = 0, KvStream stream = default) =>
        FromDevice(elements.Cast<byte>(), TensorType.F32, tokenStride, headStride, stream);

    /// <summary>Wraps elements on the cache's own device.</summary>
    /// <param name="elements">
    /// The memory, as bytes (<c>buffer.View.AsContiguous().Cast&lt;byte&gt;()</c>), in a buffer of the cache's accelerator. It begins at
    /// a multiple of the element's size. Where it is dense it has exactly the elements of the call: cut a larger buffer by <c>SubView</c>.
    /// </param>
    /// <param name="type">Element type.</param>
    /// <param name="tokenStride">Elements from one token to the next; 0 means dense.</param>
    /// <param name="headStride">Elements from one head to the next; 0 means dense.</param>
    /// <param name="stream">The stream that writes the tensor; the default value where nothing is pending, or where it is the step's own.</param>
    public static KvTensor FromDevice(ArrayView<byte> elements, TensorType type, int tokenStride = 0, int headStride = 0, KvStream stream = default) =>
        new(default, elements, 0, 0, type, tokenStride, headStride, stream, true);

    /// <summary>
    /// Wraps elements on the cache's own device by their address, as other frameworks give it. Works with CUDA, and with ILGPU's CPU accelerator, where
    /// addresses are those of the process. OpenCL has no addresses: a call that reads such a tensor there throws E009.
    /// </summary>
    /// <remarks>
    /// With CUDA each call asks the driver about the address before it enqueues anything: it must be memory of the context that the cache works in, or managed memory, and its allocation must
    /// hold all that the tensor spans. Page-locked host memory is refused: pass it as a host tensor. On the CPU accelerator nobody can know what an address is, so a wrong one is as dangerous as in C.
    /// </remarks>
    /// <param name="pointer">The address of the first element, in the memory of the cache's device; a multiple of the element's size.</param>
    /// <param name="type">Element type.</param>
    /// <param name="length">Elements that the tensor spans, from its first to its last, gaps counted.</param>
    /// <param name="tokenStride">Elements from one token to the next; 0 means dense.</param>
    /// <param name="headStride">Elements from one head to the next; 0 means dense.</param>
    /// <param name="stream">The stream that writes the tensor; the default value where nothing is pending, or where it is the step's own.</param>
    /// <exception cref="ArgumentException">The address is 0, or the length is negative.</exception>
    public static KvTensor FromDevicePointer(nint pointer, TensorType type, long length, int tokenStride = 0, int headStride = 0, KvStream stream = default)
    {
        ArgumentOutOfRangeException.ThrowIfZero(pointer);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return new(default, default, pointer, checked(length * (type == TensorType.F32 ? 4 : 2)), type, tokenStride, headStride, stream, true);
    }

    /// <summary>Wraps dense binary32 elements in host memory.</summary>
    public static implicit operator KvTensor(ReadOnlySpan<float> elements) => FromHost(elements);

    /// <summary>Wraps dense binary32 elements in host memory.</summary>
    public static implicit operator KvTensor(Span<float> elements) => FromHost(elements);

    /// <summary>Wraps dense binary32 elements in host memory.</summary>
    public static implicit operator KvTensor(float[] elements) => FromHost(elements);

    /// <summary>Wraps dense binary16 elements in host memory.</summary>
    public static implicit operator KvTensor(ReadOnlySpan<Half> elements) => FromHost(elements);

    /// <summary>Tokens of <c>[heads][width]</c> each that the tensor spans; an incomplete one does not count.</summary>
    internal int TokensOf(int heads, int width)
    {
        long headStride = HeadStride == 0 ? width : HeadStride;
        long tokenStride = TokenStride == 0 ? heads * headStride : TokenStride;
        long token = ((heads - 1) * headStride) + width;
        return Length < token || tokenStride < 1 ? 0 : (int)Math.Min(int.MaxValue, ((Length - token) / tokenStride) + 1);
    }

    /// <summary>Elements from one token to the next and from one head to the next, once 0 is worked out; what nothing asks for may be cut to 2^31 - 1.</summary>
    internal (int Token, int Head) StridesFor(int heads, int width)
    {
        int headStride = HeadStride == 0 ? width : HeadStride;
        return (TokenStride == 0 ? (int)Math.Min(int.MaxValue, (long)heads * headStride) : TokenStride, headStride);
    }

    /// <summary>Refuses a tensor that does not span <c>[tokens][heads][width]</c> at its strides.</summary>
    /// <exception cref="ArgumentException">Too short, or dense and too long, or a stride so small that vectors overlap, or so large that it is no int.</exception>
    public void ThrowIfNotShaped(int tokens, int heads, int width, string name)
    {
        int headStride = HeadStride == 0 ? width : HeadStride;
        long tokenStride = TokenStride == 0 ? (long)heads * headStride : TokenStride;
        if (headStride < width || tokenStride < width)
        {
            throw new ArgumentException($"{name}: strides {tokenStride}, {headStride} overlap vectors of width {width}", name);
        }

        if (tokenStride > int.MaxValue && tokens > 1)
        {
            throw new ArgumentException($"{name}: expected strides up to {int.MaxValue}, got {tokenStride} for {heads} heads of stride {headStride}", name);
        }

        long needed = ((tokens - 1) * tokenStride) + ((long)(heads - 1) * headStride) + width;
        bool dense = TokenStride == 0 && HeadStride == 0;
        if (Length < needed || (dense && Length != needed))
        {
            throw new ArgumentException(
                $"{name}: expected {needed} elements [{tokens} tokens][{heads} heads][{width}], got {Length}", name);
        }
    }
}
