using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.GpuCheck;

/// <summary>Checks targets one after another and joins what they found.</summary>
internal static class DeviceRun
{
    // A run with its measurements is meant to end within eight minutes; writing the report takes some of them.
    private const double MostSeconds = 470;

    private const double LeastBenchSeconds = 60;

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

        long began = Stopwatch.GetTimestamp();
        DeviceCheck[] checks = [.. targets.Select((t, i) => Check(t, options, console, () =>
            options.BenchSeconds ?? Math.Max(LeastBenchSeconds, (MostSeconds - Stopwatch.GetElapsedTime(began).TotalSeconds) / (targets.Count - i))))];
        string machine = string.Create(
            CultureInfo.InvariantCulture,
            $"{RuntimeInformation.OSDescription} {RuntimeInformation.OSArchitecture}, .NET {Environment.Version}, {Environment.ProcessorCount} logical cores");
        ListedDevice[] devices = [.. KvDevice.List().Select(d => new ListedDevice(d.Id, d.Name, d.MemoryBytes, d.Usable, d.Reason))];
        return new CheckReport(2, start, machine, hasGpu, note, checks.All(c => c.Groups.All(g => g.Failures.Count == 0)), devices, checks);
    }

    private static DeviceCheck Check(CheckTarget target, CheckOptions options, TextWriter console, Func<double> seconds)
    {
        long start = Stopwatch.GetTimestamp();
        bool isSubset = options.IsSubset || target.IsEmulator;
        string tier = target.TierName;
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
        KernelBenches? benches = options.IsMeasured ? new KernelBenches(target, seconds()) : null;
        if (benches is not null)
        {
            groups.Add(Measure(benches, BenchPlan.Rows(target), kernels, console));
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
            benches?.CopyGBps ?? 0,
            benches?.PeakTflops ?? 0,
            benches?.PeakNote ?? string.Empty,
            groups,
            kernels,
            benches?.Dropped ?? []);
    }

    // A kernel that a measurement cannot run is a failure like any other.
    private static GroupResult Measure(KernelBenches benches, IReadOnlyList<BenchRow> rows, List<KernelResult> kernels, TextWriter console)
    {
        var failures = new List<Failure>();
        void Print(FormattableString line) => console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        try
        {
            foreach (KernelResult kernel in benches.Run(rows))
            {
                if (kernels.Count == 0)
                {
                    Print($"copy {benches.CopyGBps:f1} GB/s, read and write");
                    Print(benches.PeakNote.Length == 0
                        ? $"mma.sync {benches.PeakTflops:f1} Tflop/s, binary16 into binary32"
                        : (FormattableString)$"mma.sync not measured: {benches.PeakNote}");
                }

                kernels.Add(kernel);
                string peak = string.Create(CultureInfo.InvariantCulture, $"{(kernel.OfPeak > 0 ? $" {kernel.OfPeak,7:p1} of mma" : string.Empty)}");
                string target = kernel.Target == 0 ? string.Empty
                    : string.Create(CultureInfo.InvariantCulture, $", target {kernel.Target:p0} of {kernel.Of}{(kernel.Reached < kernel.Target ? ": MISSED" : string.Empty)}");
                Print($"{kernel.Name,-56} {kernel.Milliseconds,10:f4} ms {kernel.GBps,9:f2} GB/s {kernel.OfCopy,7:p1} of copy{peak}{target}");
            }

            if (benches.Dropped.Count > 0)
            {
                Print($"no time was left for {benches.Dropped.Count} of {rows.Count} measurements: {string.Join("; ", benches.Dropped)}");
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
}
