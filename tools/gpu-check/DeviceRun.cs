using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.GpuCheck;

/// <summary>Checks targets one after another and joins what they found.</summary>
internal static class DeviceRun
{
    /// <summary>The report of a run over <paramref name="targets"/>; progress goes to <paramref name="console"/>.</summary>
    public static CheckReport Check(IReadOnlyList<CheckTarget> targets, CheckOptions options, TextWriter console)
    {
        DateTime start = DateTime.UtcNow;
        bool hasGpu = targets.Any(t => t.IsGpu);
        string note = hasGpu ? string.Empty : "no GPU took part: times say nothing about one, and what only a GPU can show is unchecked";
        foreach (KvDeviceInfo device in KvDevice.List())
        {
            console.WriteLine($"{device.Id,-10} {(device.Usable ? "usable  " : "unusable")} {device.Name} {device.Reason}");
        }

        if (note.Length > 0)
        {
            console.WriteLine(note);
        }

        DeviceCheck[] checks = [.. targets.Select(t => Check(t, options, console))];
        string machine = string.Create(
            CultureInfo.InvariantCulture,
            $"{RuntimeInformation.OSDescription} {RuntimeInformation.OSArchitecture}, .NET {Environment.Version}, {Environment.ProcessorCount} logical cores");
        ListedDevice[] devices = [.. KvDevice.List().Select(d => new ListedDevice(d.Id, d.Name, d.MemoryBytes, d.Usable, d.Reason))];
        return new CheckReport(1, start, machine, hasGpu, note, checks.All(c => c.Groups.All(g => g.Failures.Count == 0)), devices, checks);
    }

    private static DeviceCheck Check(CheckTarget target, CheckOptions options, TextWriter console)
    {
        long start = Stopwatch.GetTimestamp();
        bool isSubset = options.IsSubset || target.IsEmulator;
        string tier = TierName(target);
        console.WriteLine($"== {target.Device.Id}: {target.Device.Name}, {tier} {target.Driver}{(isSubset ? ", a subset of the cases" : string.Empty)}");
        var groups = new List<GroupResult>();
        foreach (GroupResult group in ConformanceRun.Run(target, options))
        {
            groups.Add(group);
            string worst = group.Bound > 0
                ? string.Create(CultureInfo.InvariantCulture, $", worst error {group.WorstError:0.0e+0} of {group.Bound:0e+0}")
                : string.Empty;
            console.WriteLine($"{(group.Failures.Count == 0 ? "ok  " : "FAIL")} {group.Name}: {group.Cases} cases{worst}");
            foreach (Failure failure in group.Failures)
            {
                console.WriteLine($"       {failure.Case}: {failure.Message}");
            }
        }

        var kernels = new List<KernelResult>();
        double copy = 0;
        if (options.IsMeasured)
        {
            groups.Add(Measure(target, kernels, console, ref copy));
        }

        return new DeviceCheck(
            target.Device.Id,
            target.Device.Name,
            tier,
            target.Driver,
            target.ComputeCapability,
            target.Multiprocessors,
            target.Device.MemoryBytes,
            isSubset,
            Stopwatch.GetElapsedTime(start).TotalSeconds,
            copy,
            groups,
            kernels);
    }

    // A kernel that a measurement cannot run is a failure like any other.
    private static GroupResult Measure(CheckTarget target, List<KernelResult> kernels, TextWriter console, ref double copy)
    {
        var failures = new List<Failure>();
        try
        {
            var benches = new KernelBenches(target);
            foreach (KernelResult kernel in benches.Run())
            {
                if (copy == 0)
                {
                    copy = benches.CopyGBps;
                    console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"copy {copy:f1} GB/s, read and write"));
                }

                kernels.Add(kernel);
                console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"{kernel.Name,-48} {kernel.Milliseconds,10:f4} ms {kernel.GBps,9:f2} GB/s {kernel.OfCopy,7:p1} of copy"));
            }
        }
#pragma warning disable CA1031 // Whatever a kernel or a driver throws is a finding, not the end of the run.
        catch (Exception e)
#pragma warning restore CA1031
        {
            failures.Add(new Failure($"after {kernels.Count} kernels", $"{e.GetType().Name}: {e.Message}"));
            console.WriteLine($"FAIL {failures[0].Case}: {failures[0].Message}");
        }

        return new GroupResult("Measurements", kernels.Count, 0, 0, failures);
    }

    private static string TierName(CheckTarget target)
    {
        // A shape that every tier runs as fast as it can.
        var geometry = new KvGeometry(1, 1, 1, 64);
        var layout = new PageLayout(geometry, PageFormat.F16, PageFormat.F16);
        var shape = new KernelShape(geometry, layout, layout, 1, 1, 1);
        using KernelTier tier = target.CreateTier(shape, new TableMap(shape).Bytes + layout.Bytes);
        return tier.Name;
    }
}
