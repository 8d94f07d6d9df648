using System.Text.Json;
using System.Text.Json.Serialization;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.GpuCheck;

/// <summary>The result of a run, as its JSON file holds it.</summary>
/// <param name="Schema">Version of this record's shape: 2.</param>
/// <param name="Utc">When the run began.</param>
/// <param name="Machine">Operating system, runtime and logical cores.</param>
/// <param name="HasGpu">True if a device that was checked is a GPU.</param>
/// <param name="Note">A warning to the reader, before anything else; empty if there is none.</param>
/// <param name="Passed">True if every check of every device held.</param>
/// <param name="Devices">Every device of the machine.</param>
/// <param name="Checks">One for each device checked.</param>
internal sealed record CheckReport(
    int Schema,
    DateTime Utc,
    string Machine,
    bool HasGpu,
    string Note,
    bool Passed,
    IReadOnlyList<ListedDevice> Devices,
    IReadOnlyList<DeviceCheck> Checks)
{
    private static readonly JsonSerializerOptions _json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        // A kernel may answer NaN; the report must still be written.
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    /// <summary>The report as its file holds it.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, _json);
}

/// <summary>A device of the machine.</summary>
internal sealed record ListedDevice(string Id, string Name, long MemoryBytes, bool Usable, string Reason);

/// <summary>The result of one device.</summary>
/// <param name="Id">Its id, "cuda:0".</param>
/// <param name="Name">Its own name.</param>
/// <param name="Tier">The kernel tier that ran there.</param>
/// <param name="Driver">Its driver, or empty.</param>
/// <param name="ComputeCapability">"9.0"; empty for other than CUDA devices.</param>
/// <param name="Multiprocessors">Its multiprocessors; 0 on the host.</param>
/// <param name="MemoryBytes">Its memory.</param>
/// <param name="IsSubset">True if only a few cases of each group ran.</param>
/// <param name="Seconds">Time that the checks and measurements took.</param>
/// <param name="CopyGBps">Device-to-device copy, bytes read and written, in 1e9 bytes/s; 0 where nothing was measured.</param>
/// <param name="MmaTflops">The tensor cores' own rate with mma.sync on binary16, 1e12 operations/s; 0 where it was not measured.</param>
/// <param name="MmaNote">Why <paramref name="MmaTflops"/> is 0; empty where it is not, or where nothing was measured.</param>
/// <param name="Groups">Conformance, by group.</param>
/// <param name="Kernels">Measurements.</param>
/// <param name="Dropped">Measurements that no time was left for.</param>
internal sealed record DeviceCheck(
    string Id,
    string Name,
    string Tier,
    string Driver,
    string ComputeCapability,
    int Multiprocessors,
    long MemoryBytes,
    bool IsSubset,
    double Seconds,
    double CopyGBps,
    double MmaTflops,
    string MmaNote,
    IReadOnlyList<GroupResult> Groups,
    IReadOnlyList<KernelResult> Kernels,
    IReadOnlyList<string> Dropped);

/// <summary>The result of a group of cases.</summary>
/// <param name="Name">Suite and check.</param>
/// <param name="Cases">Cases run.</param>
/// <param name="WorstError">Relative error of the worst comparison with the oracle; 0 for groups that compare bits.</param>
/// <param name="Bound">That comparison's bound.</param>
/// <param name="Failures">Cases that failed.</param>
internal sealed record GroupResult(string Name, int Cases, double WorstError, double Bound, IReadOnlyList<Failure> Failures);

/// <summary>A case that failed, and why.</summary>
internal sealed record Failure(string Case, string Message);
