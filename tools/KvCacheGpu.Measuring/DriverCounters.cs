using System.Runtime.InteropServices;

namespace KvCacheGpu.Measuring;

/// <summary>What a CUDA driver for tests has counted: copies between host and device, threads that waited, and launches. A driver for a real device counts nothing.</summary>
internal static unsafe class DriverCounters
{
    private static readonly delegate* unmanaged<ulong*, int, int> _read = Find();

    /// <summary>True if the driver counts.</summary>
    public static bool Count => _read != null;

    /// <summary>The counts so far; all 0 where the driver counts nothing.</summary>
    public static DriverCounts Now
    {
        get
        {
            Span<ulong> values = stackalloc ulong[30];
            values.Clear();
            if (_read != null)
            {
                fixed (ulong* first = values)
                {
                    _ = _read(first, values.Length);
                }
            }

            // Copies: calls and bytes of asynchronous ones, calls and bytes of blocking ones. Waits: contexts, streams, events, copies, frees.
            ulong waits = values[25] + values[26] + values[27] + values[28] + values[29];
            return new DriverCounts(values[4] + values[6], values[8] + values[10], waits, values[0], values[2]);
        }
    }

    private static delegate* unmanaged<ulong*, int, int> Find() =>
        NativeLibrary.TryLoad("libcuda.so.1", out nint library) && NativeLibrary.TryGetExport(library, "simcudaCounters", out nint found)
            ? (delegate* unmanaged<ulong*, int, int>)found
            : null;
}

/// <summary>Counts of a driver.</summary>
/// <param name="ToDevice">Bytes copied from the host to the device.</param>
/// <param name="ToHost">Bytes copied from the device to the host.</param>
/// <param name="Waits">Times that a thread waited for the device.</param>
/// <param name="Launches">Kernels launched outside of graphs.</param>
/// <param name="Graphs">Graphs launched.</param>
internal readonly record struct DriverCounts(ulong ToDevice, ulong ToHost, ulong Waits, ulong Launches, ulong Graphs)
{
    public static DriverCounts operator +(DriverCounts left, DriverCounts right) =>
        new(left.ToDevice + right.ToDevice, left.ToHost + right.ToHost, left.Waits + right.Waits, left.Launches + right.Launches, left.Graphs + right.Graphs);

    public static DriverCounts operator -(DriverCounts left, DriverCounts right) =>
        new(left.ToDevice - right.ToDevice, left.ToHost - right.ToHost, left.Waits - right.Waits, left.Launches - right.Launches, left.Graphs - right.Graphs);
}
