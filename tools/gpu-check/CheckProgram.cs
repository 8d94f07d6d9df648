using System.Reflection;
using ILGPU.Runtime;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck;

/// <summary>The program: arguments in, exit code out.</summary>
internal static class CheckProgram
{
    private const int Passed = 0;
    private const int Failed = 1;
    private const int Misused = 2;

    /// <summary>Runs what the arguments ask for.</summary>
    public static int Run(string[] args, TextWriter console, TextWriter errors)
    {
        if (CheckOptions.Parse(args) is not { } options)
        {
            errors.WriteLine(CheckOptions.Usage);
            return Misused;
        }

        if (options.PtxFolder is { } folder)
        {
            WritePtx(folder, options, console);
            return Passed;
        }

        if (options.GateFolder is { } kernels)
        {
            string[] table = File.ReadAllLines(options.Limits);
            return new GateRun(GateTable.Parse(table), console) { Goals = GateGoal.Parse(table) }.Check(kernels) ? Passed : Failed;
        }

        CheckTarget[] targets = [];
        try
        {
            targets = [.. Choose(options).Select(d => new CheckTarget(d))];
            return Run(targets, options, console);
        }
        catch (KvCacheException e)
        {
            errors.WriteLine(e.Message);
            return Misused;
        }
        finally
        {
            Array.ForEach(targets, t => t.Dispose());
        }
    }

    /// <summary>Checks targets and writes the report.</summary>
    public static int Run(IReadOnlyList<CheckTarget> targets, CheckOptions options, TextWriter console)
    {
        CheckReport report = DeviceRun.Check(targets, options, console);
        File.WriteAllText(options.Out, report.ToJson());
        console.WriteLine($"{(report.Passed ? "passed" : "FAILED")}; report in {options.Out}");
        return report.Passed ? Passed : Failed;
    }

    private static IEnumerable<KvDeviceInfo> Choose(CheckOptions options)
    {
        if (options.Devices.Count > 0)
        {
            return options.Devices.Select(KvDevice.Resolve);
        }

        KvDeviceInfo[] gpus = [.. KvDevice.List().Where(d => d.Usable && d.Kind == KvDeviceKind.Cuda)];
        return gpus.Length > 0 ? gpus : [KvDevice.Resolve("ilgpu-cpu")];
    }

    /// <summary>True for the kernels that the gate looks at: all portable ones, and of tensor cores the shape that the limits are stated for, since each takes seconds to compile.</summary>
    public static bool IsGated(string kernel) => !kernel.StartsWith("tensor", StringComparison.Ordinal) || kernel.EndsWith("-d128-p64", StringComparison.Ordinal);

    private static void WritePtx(string folder, CheckOptions options, TextWriter console)
    {
        // ILGPU writes the same for all architectures, which a test holds, and takes seconds for a kernel.
        using var compiler = new OfflinePtx(OfflinePtx.Architectures[0]);
        string[] targets = [.. OfflinePtx.Architectures.Select(architecture => Directory.CreateDirectory(Path.Combine(folder, architecture)).FullName)];
        int kernels = 0;
        foreach ((string name, MethodInfo kernel, KernelSpecialization bounds) in OfflinePtx.Kernels)
        {
            if ((options.IsFull || IsGated(name)) && name.Contains(options.Only, StringComparison.OrdinalIgnoreCase))
            {
                string ptx = compiler.Compile(kernel, bounds);
                Array.ForEach(targets, target => File.WriteAllText(Path.Combine(target, name + ".ptx"), ptx));
                kernels++;
            }
        }

        console.WriteLine($"{kernels} kernels for {string.Join(" and ", OfflinePtx.Architectures)} in {folder}");
    }
}
