using System.Runtime.InteropServices;
using ILGPU;
using Half = System.Half;

namespace KvCacheGpu;

/// <summary>
/// Where attention writes to: dense elements <c>[tokens][query heads][value width]</c> and, where they are wanted, the natural
/// log-sum-exps <c>[tokens][query heads]</c> in binary32, both in host memory or both on the device. Nothing is copied to make one.
/// </summary>
/// <remarks>
/// <para>
/// Results are binary32 inside. An output of 16 bits gets each of them rounded once, to nearest even. A finite number beyond the largest of the type
/// becomes that number (65504 in binary16), so that an output is finite wherever the binary32 one is. Attention's results are means of values: as
/// long as the values lie within the type, so do the results.
/// </para>
/// <para>Thread safety: it stays on the stack of one thread, and the memory that it wraps is the caller's until the call has ended; on a device, until the work of its stream has.</para>
/// </remarks>
public readonly ref struct KvOutput
{
    private readonly long _pointerBytes;

    private KvOutput(TensorType type, Span<byte> host, Span<float> hostLogSumExp)
    {
        Type = type;
        Host = host;
        HostLogSumExp = hostLogSumExp;
    }

    private KvOutput(TensorType type, ArrayView<byte> device, ArrayView<float> deviceLogSumExp)
    {
        (Type, Device, DeviceLogSumExp, IsOnDevice) = (type, device, deviceLogSumExp, true);
    }

    private KvOutput(TensorType type, nint pointer, long pointerBytes, nint logSumExp)
    {
        (Type, DevicePointer, _pointerBytes, LogSumExpPointer, IsOnDevice) = (type, pointer, pointerBytes, logSumExp, true);
    }

    /// <summary>Element type of the output. Log-sum-exps are always binary32.</summary>
    public TensorType Type { get; }

    /// <summary>The output in host memory, as bytes; empty where it lies on the device.</summary>
    public Span<byte> Host { get; }

    /// <summary>The log-sum-exps in host memory; empty where none are wanted.</summary>
    public Span<float> HostLogSumExp { get; }

    /// <summary>The output on the device, as bytes; not valid where it lies in host memory, nor where it was given by its address.</summary>
    public ArrayView<byte> Device { get; }

    /// <summary>The log-sum-exps on the device; not valid where none are wanted, nor where they were given by their address.</summary>
    public ArrayView<float> DeviceLogSumExp { get; }

    /// <summary>The address of the output on the device, if it was given by it; else 0.</summary>
    public nint DevicePointer { get; }

    /// <summary>The address of the log-sum-exps on the device, if they were given by it; else 0.</summary>
    public nint LogSumExpPointer { get; }

    /// <summary>True if the output stays on the device.</summary>
    public bool IsOnDevice { get; }

    /// <summary>True if log-sum-exps are wanted.</summary>
    public bool HasLogSumExp => IsOnDevice ? LogSumExpPointer != 0 || DeviceLogSumExp.IsValid : !HostLogSumExp.IsEmpty;

    /// <summary>Bytes of one element.</summary>
    public int ElementBytes => Type == TensorType.F32 ? 4 : 2;

    /// <summary>Elements that there is room for.</summary>
    public long Length => (DevicePointer != 0 ? _pointerBytes : IsOnDevice ? Device.Length : Host.Length) / ElementBytes;

    /// <summary>Writes binary32 to host memory.</summary>
    /// <param name="output">Receives the output.</param>
    /// <param name="logSumExp">Receives the log-sum-exps; empty, the default, leaves them out.</param>
    public static KvOutput FromHost(Span<float> output, Span<float> logSumExp = default) => new(TensorType.F32, MemoryMarshal.AsBytes(output), logSumExp);

    /// <summary>Writes binary16 to host memory.</summary>
    /// <inheritdoc cref="FromHost(Span{float}, Span{float})"/>
    public static KvOutput FromHost(Span<Half> output, Span<float> logSumExp = default) => new(TensorType.F16, MemoryMarshal.AsBytes(output), logSumExp);

    /// <summary>Writes bfloat16 bits to host memory.</summary>
    /// <inheritdoc cref="FromHost(Span{float}, Span{float})"/>
    public static KvOutput FromHostBFloat16(Span<ushort> output, Span<float> logSumExp = default) => new(TensorType.BF16, MemoryMarshal.AsBytes(output), logSumExp);

    /// <summary>Writes elements of a type to host memory, as bytes.</summary>
    internal static KvOutput FromHost(Span<byte> output, TensorType type, Span<float> logSumExp) => new(type, output, logSumExp);

    /// <summary>Writes binary32 to the cache's own device.</summary>
    /// <param name="output">Receives the output.</param>
    /// <param name="logSumExp">Receives the log-sum-exps; empty, the default, leaves them out.</param>
    public static KvOutput FromDevice(ArrayView<float> output, ArrayView<float> logSumExp = default) =>
        FromDevice(output.Cast<byte>(), TensorType.F32, logSumExp);

    /// <summary>Writes to the cache's own device.</summary>
    /// <param name="output">
    /// Receives the output: the memory, as bytes (<c>buffer.View.AsContiguous().Cast&lt;byte&gt;()</c>), in a buffer of the cache's accelerator. It begins at a multiple of the element's size.
    /// </param>
    /// <param name="type">Element type of the output.</param>
    /// <param name="logSumExp">Receives the log-sum-exps; empty, the default, leaves them out.</param>
    public static KvOutput FromDevice(ArrayView<byte> output, TensorType type, ArrayView<float> logSumExp = default) => new(type, output, logSumExp);

    /// <summary>Writes to the cache's own device by addresses, as other frameworks give them; checked and refused as <see cref="KvTensor.FromDevicePointer"/> says.</summary>
    /// <param name="pointer">Where the output goes: the address of its first element, a multiple of the element's size.</param>
    /// <param name="type">Element type of the output.</param>
    /// <param name="length">Elements that there is room for. The driver is asked only about those that the call writes.</param>
    /// <param name="logSumExp">Where the log-sum-exps go: the address of one binary32 for each query and query head. 0, the default, leaves them out.</param>
    /// <exception cref="ArgumentException">The address is 0, or the length is negative.</exception>
    public static KvOutput FromDevicePointer(nint pointer, TensorType type, long length, nint logSumExp = 0)
    {
        ArgumentOutOfRangeException.ThrowIfZero(pointer);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return new(type, pointer, checked(length * (type == TensorType.F32 ? 4 : 2)), logSumExp);
    }

    /// <summary>Writes binary32 to host memory, without log-sum-exps.</summary>
    public static implicit operator KvOutput(Span<float> output) => FromHost(output);

    /// <summary>Writes binary32 to host memory, without log-sum-exps.</summary>
    public static implicit operator KvOutput(float[] output) => FromHost(output.AsSpan());

    /// <summary>Writes binary16 to host memory, without log-sum-exps.</summary>
    public static implicit operator KvOutput(Span<Half> output) => FromHost(output);

    /// <summary>Writes binary32 to the cache's own device, without log-sum-exps.</summary>
    public static implicit operator KvOutput(ArrayView<float> output) => FromDevice(output);

    /// <summary>The first part, as long as so many vectors need, with a log-sum-exp for each if they are wanted; what lies behind it stays as it is.</summary>
    /// <param name="vectors">Vectors: (token, query head)s of attention.</param>
    /// <param name="width">Elements of a vector.</param>
    /// <param name="name">The name for errors.</param>
    /// <exception cref="ArgumentException">The output or the log-sum-exps are shorter.</exception>
    public KvOutput First(int vectors, int width, string name = "output")
    {
        long elements = (long)vectors * width;
        ThrowIfShorter(Length, elements, name);
        if (HasLogSumExp && LogSumExpPointer == 0)
        {
            ThrowIfShorter(IsOnDevice ? DeviceLogSumExp.Length : HostLogSumExp.Length, vectors, "logSumExp");
        }

        long bytes = elements * ElementBytes;
        return DevicePointer != 0 ? new(Type, DevicePointer, bytes, LogSumExpPointer)
            : IsOnDevice ? FromDevice(Device.SubView(0, bytes), Type, HasLogSumExp ? DeviceLogSumExp.SubView(0, vectors) : default)
            : new(Type, Host[..(int)bytes], HasLogSumExp ? HostLogSumExp[..vectors] : default);
    }

    private static void ThrowIfShorter(long length, long expected, string name)
    {
        if (length < expected)
        {
            throw new ArgumentException($"{name}: expected at least {expected} elements, got {length}", name);
        }
    }
}
