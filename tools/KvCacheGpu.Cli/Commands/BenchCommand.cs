using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Measuring;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache bench</c>: a device's kernels beside what its memory and its tensor cores give in the same run.</summary>
internal static class BenchCommand
{
    private const int DefaultSeconds = 60;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> device = Choice.Text("--device", "auto|cuda[:i]|opencl[:i]|cpu|ilgpu-cpu", "The device to measure. Default: auto.");
        Option<string?> only = Choice.Text("--only", "TEXT", "Measure the rows whose names contain the text: attend, prefill, append, encode, transcode, a format. Default: all.");
        Option<int?> seconds = Choice.Number("--seconds", $"Time after which no further row is begun; the rows left out are named. Default: {DefaultSeconds}.", 0);
        Option<bool> json = Choice.Json();
        Command command = new("bench", "Measure attention, append, encode and transcode on a device, as fractions of its own copy bandwidth and tensor cores.")
        {
            device, only, seconds, json, BenchServeCommand.Create(terminal),
        };
        command.SetAction(parsed =>
        {
            BenchReport report = Measure(
                terminal, KvDevice.Resolve(parsed.GetValue(device) ?? "auto"), parsed.GetValue(only) ?? string.Empty, parsed.GetValue(seconds) ?? DefaultSeconds, parsed.GetValue(json));
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
            }
            else
            {
                Print(terminal, report);
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static BenchReport Measure(Terminal terminal, KvDeviceInfo device, string only, int seconds, bool isQuiet)
    {
        using DeviceBench bench = new(device, only);
        if (bench.Rows.Count == 0)
        {
            throw new UsageException("--only", "a part of a row's name, such as attend, append or i8", $"'{only}', which no row's name contains");
        }

        List<KernelResult> kernels = [];
        terminal.WithProgress(isQuiet, stages =>
        {
            IProgress<int> stage = stages.Begin($"measure {device.Id}", bench.Rows.Count);
            foreach (KernelResult kernel in bench.Run(seconds))
            {
                kernels.Add(kernel);
                stage.Report(kernels.Count);
            }

            return kernels;
        });
        return new BenchReport(
            device.Id,
            device.Name,
            bench.TierName,
            bench.IsEmulated,
            bench.CopyGBps,
            bench.PeakNote.Length == 0 ? bench.PeakTflops : null,
            bench.PeakNote.Length == 0 ? null : bench.PeakNote,
            [.. kernels.Select(KernelReport.Of)],
            bench.Dropped);
    }

    private static void Print(Terminal terminal, BenchReport report)
    {
        TextWriter output = terminal.Output;
        output.WriteLine($"{report.Device}: {report.Name}, kernels {report.Tier}");
        output.WriteLine(FormattableString.Invariant($"copy {report.CopyGbps:f1} GB/s, read and write"));
        output.WriteLine(report.MmaTflops is { } peak ? FormattableString.Invariant($"tensor cores {peak:f1} Tflop/s, binary16 into binary32") : $"tensor cores not measured: {report.MmaNote}");
        if (report.Emulated)
        {
            output.WriteLine("Device code runs on the host's processor here: the times say nothing about a device.");
        }

        Table table = terminal.NewTable("kernel", "#ms", "#GB/s", "#of copy", "#of peak", "#target");
        foreach (KernelReport k in report.Kernels)
        {
            table.AddRow(Markup.Escape(k.Name), Text($"{k.Milliseconds:f4}"), Text($"{k.Gbps:f1}"), Percent(k.OfCopy), Percent(k.OfPeak), k.Target is { } target ? $"{Percent(target)} of {k.TargetOf}" : string.Empty);
        }

        terminal.Write(table);
        if (report.Dropped.Count > 0)
        {
            output.WriteLine($"no time was left for {report.Dropped.Count}: {string.Join("; ", report.Dropped)}");
        }
    }

    private static string Percent(double? fraction) => fraction is { } of ? Text($"{100 * of:f1} %") : string.Empty;

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>The document of <c>kvcache bench --json</c>.</summary>
/// <param name="Device">The device's name in configurations.</param>
/// <param name="Name">Its own name.</param>
/// <param name="Tier">The kernels that a cache runs there.</param>
/// <param name="Emulated">True if device code runs on the host's processor, so that times say nothing about a device.</param>
/// <param name="CopyGbps">GB/s that the device copies, read and write counted.</param>
/// <param name="MmaTflops">1e12 operations a second of its tensor cores; null if they were not measured.</param>
/// <param name="MmaNote">Why they were not measured; null if they were.</param>
/// <param name="Kernels">The rows, in the order in which they were measured.</param>
/// <param name="Dropped">The names of the rows that no time was left for.</param>
internal sealed record BenchReport(
    string Device, string Name, string Tier, bool Emulated, double CopyGbps, double? MmaTflops, string? MmaNote, IReadOnlyList<KernelReport> Kernels, IReadOnlyList<string> Dropped);

/// <summary>A kernel of one size.</summary>
/// <param name="Name">Kernel and size.</param>
/// <param name="Milliseconds">Median time of a call, enqueued back to back.</param>
/// <param name="Bytes">Bytes that a call must move.</param>
/// <param name="Gbps">The quotient, in 1e9 bytes/s.</param>
/// <param name="OfCopy">The same as a fraction of the device's copy.</param>
/// <param name="OfPeak">Operations of attention as a fraction of the tensor cores' rate; null for other kernels, and where that was not measured.</param>
/// <param name="Target">The fraction that kernels for an H200 shall reach; null if none is set.</param>
/// <param name="TargetOf">What the target is a fraction of: "copy" or "mma"; null if none is set.</param>
internal sealed record KernelReport(string Name, double Milliseconds, long Bytes, double Gbps, double OfCopy, double? OfPeak, double? Target, string? TargetOf)
{
    /// <summary>The same out of a measurement.</summary>
    public static KernelReport Of(KernelResult kernel) => new(
        kernel.Name,
        kernel.Milliseconds,
        kernel.Bytes,
        kernel.GBps,
        kernel.OfCopy,
        kernel.OfPeak > 0 ? kernel.OfPeak : null,
        kernel.Target > 0 ? kernel.Target : null,
        kernel.Target > 0 ? kernel.Of : null);
}
