using System.Text.Json.Serialization;

namespace KvCacheGpu.Measuring;

/// <summary>
/// Measures a device's kernels (decode, prefill, append, encode, transcode) against its own copy and its own tensor cores, in one run. On an emulator a few small
/// sizes run, whose times say nothing.
/// </summary>
/// <remarks>Thread safety: one thread at a time.</remarks>
public sealed class DeviceBench : IDisposable
{
    private readonly MeasuredDevice _device;
    private readonly IReadOnlyList<BenchRow> _rows;
    private KernelBenches? _run;

    /// <summary>Opens a device.</summary>
    /// <param name="device">A usable device.</param>
    /// <param name="only">Part of the names of the rows to measure; empty for all.</param>
    /// <exception cref="KvUnsupportedException">E009: the device is not usable, or gone.</exception>
    public DeviceBench(KvDeviceInfo device, string only = "")
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(only);
        _device = new MeasuredDevice(device);
        _rows = [.. BenchPlan.Rows(_device).Where(row => row.Name.Contains(only, StringComparison.OrdinalIgnoreCase))];
    }

    /// <summary>The names of the rows, the most telling first.</summary>
    public IReadOnlyList<string> Rows => [.. _rows.Select(row => row.Name)];

    /// <summary>The kernels that a cache runs there: "simd-512", "cuda (tensor cores)".</summary>
    public string TierName => _device.TierName;

    /// <summary>True if device code runs on the host's processor, so that times say nothing about a device.</summary>
    public bool IsEmulated => _device.IsEmulated;

    /// <summary>GB/s that the device copies, read and write counted; 0 before the run.</summary>
    public double CopyGBps => _run?.CopyGBps ?? 0;

    /// <summary>1e12 operations a second of its tensor cores; 0 if it has none, and before the run.</summary>
    public double PeakTflops => _run?.PeakTflops ?? 0;

    /// <summary>Why <see cref="PeakTflops"/> is 0; empty if it is not.</summary>
    public string PeakNote => MmaPeak.Refusal(_device) ?? string.Empty;

    /// <summary>The names of the rows that no time was left for.</summary>
    public IReadOnlyList<string> Dropped => _run?.Dropped ?? [];

    /// <summary>Measures copy and tensor cores, then the rows in their order until the time is over.</summary>
    /// <param name="seconds">Time after which no further row is begun.</param>
    public IEnumerable<KernelResult> Run(double seconds)
    {
        _run = new KernelBenches(_device, seconds);
        return _run.Run(_rows);
    }

    /// <summary>Closes the device.</summary>
    public void Dispose() => _device.Dispose();
}

/// <summary>The result of a measurement.</summary>
/// <param name="Name">Kernel and size.</param>
/// <param name="Milliseconds">Median time of one call, enqueued back to back.</param>
/// <param name="Bytes">Bytes that one call must move.</param>
/// <param name="GBps">The quotient, in 1e9 bytes/s.</param>
/// <param name="OfCopy">GBps as a fraction of the device's measured copy.</param>
/// <param name="Tflops">Operations of the products of attention, 1e12 a second; 0 for other kernels.</param>
/// <param name="OfPeak">Tflops as a fraction of the tensor cores' measured rate; 0 where it was not measured.</param>
/// <param name="Target">The fraction that kernels for an H200 shall reach; 0 where none is set.</param>
/// <param name="Of">What Target is a fraction of: "copy" (OfCopy) or "mma" (OfPeak).</param>
public sealed record KernelResult(
    string Name, double Milliseconds, long Bytes, double GBps, double OfCopy, double Tflops, double OfPeak, double Target, string Of)
{
    /// <summary>The fraction that <see cref="Target"/> is about.</summary>
    [JsonIgnore]
    public double Reached => Of == "mma" ? OfPeak : OfCopy;
}
