using ILGPU;

namespace KvCacheGpu;

/// <summary>
/// Where attention writes to: dense binary32 elements <c>[tokens][query heads][value width]</c> and, where they are wanted, the natural
/// log-sum-exps <c>[tokens][query heads]</c>, both in host memory or both on the device. Nothing is copied to make one.
/// </summary>
/// <remarks>Thread safety: it stays on the stack of one thread, and the memory that it wraps is the caller's until the call has ended.</remarks>
public readonly ref struct KvOutput
{
    private KvOutput(Span<float> host, Span<float> hostLogSumExp, ArrayView<float> device, ArrayView<float> deviceLogSumExp, bool onDevice)
    {
        Host = host;
        HostLogSumExp = hostLogSumExp;
        Device = device;
        DeviceLogSumExp = deviceLogSumExp;
        IsOnDevice = onDevice;
    }

    /// <summary>The output in host memory; empty where it lies on the device.</summary>
    public Span<float> Host { get; }

    /// <summary>The log-sum-exps in host memory; empty where none are wanted.</summary>
    public Span<float> HostLogSumExp { get; }

    /// <summary>The output on the device; not valid where it lies in host memory.</summary>
    public ArrayView<float> Device { get; }

    /// <summary>The log-sum-exps on the device; not valid where none are wanted.</summary>
    public ArrayView<float> DeviceLogSumExp { get; }

    /// <summary>True if the output stays on the device.</summary>
    public bool IsOnDevice { get; }

    /// <summary>True if log-sum-exps are wanted.</summary>
    public bool HasLogSumExp => IsOnDevice ? DeviceLogSumExp.IsValid && DeviceLogSumExp.Length > 0 : !HostLogSumExp.IsEmpty;

    /// <summary>Writes to host memory.</summary>
    /// <param name="output">Receives the output.</param>
    /// <param name="logSumExp">Receives the log-sum-exps; empty, the default, leaves them out.</param>
    public static KvOutput FromHost(Span<float> output, Span<float> logSumExp = default) => new(output, logSumExp, default, default, false);

    /// <summary>Writes to the cache's own device.</summary>
    /// <param name="output">Receives the output.</param>
    /// <param name="logSumExp">Receives the log-sum-exps; empty, the default, leaves them out.</param>
    public static KvOutput FromDevice(ArrayView<float> output, ArrayView<float> logSumExp = default) => new(default, default, output, logSumExp, true);

    /// <summary>Writes to host memory, without log-sum-exps.</summary>
    public static implicit operator KvOutput(Span<float> output) => FromHost(output);

    /// <summary>Writes to host memory, without log-sum-exps.</summary>
    public static implicit operator KvOutput(float[] output) => FromHost(output);

    /// <summary>Writes to the cache's own device, without log-sum-exps.</summary>
    public static implicit operator KvOutput(ArrayView<float> output) => FromDevice(output);

    /// <summary>The first part, as long as <paramref name="queries"/> (token, query head)s need; elements behind it stay as they are.</summary>
    /// <param name="queries">Queries of the launch.</param>
    /// <param name="width">Elements of a value.</param>
    /// <exception cref="ArgumentException">The output or the log-sum-exps are shorter.</exception>
    public KvOutput First(int queries, int width)
    {
        long floats = (long)queries * width;
        ThrowIfShorter(IsOnDevice ? Device.Length : Host.Length, floats, "output");
        if (HasLogSumExp)
        {
            ThrowIfShorter(IsOnDevice ? DeviceLogSumExp.Length : HostLogSumExp.Length, queries, "logSumExp");
        }

        return IsOnDevice
            ? FromDevice(Device.SubView(0, floats), HasLogSumExp ? DeviceLogSumExp.SubView(0, queries) : default)
            : FromHost(Host[..(int)floats], HasLogSumExp ? HostLogSumExp[..queries] : default);
    }

    private static void ThrowIfShorter(long length, long expected, string name)
    {
        if (length < expected)
        {
            throw new ArgumentException($"{name}: expected at least {expected} elements, got {length}", name);
        }
    }
}
