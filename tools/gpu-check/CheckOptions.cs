using System.Globalization;

namespace KvCacheGpu.GpuCheck;

/// <summary>The options of the command line.</summary>
internal sealed record CheckOptions
{
    public const string Usage = """
        usage: gpu-check [--device ID]... [--out FILE] [--only TEXT] [--except TEXT] [--cases TEXT] [--subset|--common|--full] [--no-bench] [--bench-seconds N]
               gpu-check --ptx FOLDER [--only TEXT] [--full]
               gpu-check --gate FOLDER --limits FILE

          --device ID   a device to check: cuda:0, opencl:0, cpu, ilgpu-cpu; default: every CUDA device, without one ilgpu-cpu
          --out FILE    where the report goes; default: gpu-check.json
          --only TEXT   the checks, or kernels, whose names contain the text
          --except TEXT without those whose names contain the text
          --cases TEXT  the cases whose names contain the text
          --subset      a few cases of each group instead of all; always so on ilgpu-cpu, an emulator
          --common      of tensor cores few kernels, in whose cases every two formats, widths, head groupings, chunks and batches meet
          --full        of tensor cores all cases, for hours
          --no-bench    no measurements
          --bench-seconds N   time for the measurements of a device; the last ones of the list are left out and named. Default: the rest of eight minutes
          --ptx FOLDER  writes the PTX of every kernel for sm_80 and sm_90 and stops; of tensor cores those for width 128 and pages of 64, with --full all
          --gate FOLDER holds the kernels of such a folder, beside which ptx-gate has put the machine code, to the limits of FILE and stops

        exit codes: 0 all right, 1 a check failed or a kernel is beyond a limit, 2 usage or no such device
        """;

    /// <summary>Ids of devices; empty chooses.</summary>
    public IReadOnlyList<string> Devices { get; private init; } = [];

    /// <summary>The report's file.</summary>
    public string Out { get; private init; } = "gpu-check.json";

    /// <summary>Part of the names of the cases that run; empty for all, and for checks without cases.</summary>
    public string Cases { get; private init; } = string.Empty;

    /// <summary>Part of the names of the checks that run; empty for all.</summary>
    public string Only { get; private init; } = string.Empty;

    /// <summary>Part of the names of the checks that do not run; empty for none.</summary>
    public string Except { get; private init; } = string.Empty;

    /// <summary>True if a few cases of each group are enough.</summary>
    public bool IsSubset { get; private init; }

    /// <summary>True if of tensor cores the common cases are enough.</summary>
    public bool IsCommon { get; private init; }

    /// <summary>True if every case of tensor cores is checked.</summary>
    public bool IsFull { get; private init; }

    /// <summary>True if kernels are measured.</summary>
    public bool IsMeasured { get; private init; } = true;

    /// <summary>Time for the measurements of a device; null for the rest of eight minutes.</summary>
    public double? BenchSeconds { get; private init; }

    /// <summary>The folder for PTX, or null.</summary>
    public string? PtxFolder { get; private init; }

    /// <summary>The folder of kernels for the gate, or null.</summary>
    public string? GateFolder { get; private init; }

    /// <summary>The gate's table.</summary>
    public string Limits { get; private init; } = string.Empty;

    /// <summary>Reads arguments; null where they are not understood.</summary>
    public static CheckOptions? Parse(ReadOnlySpan<string> args)
    {
        var options = new CheckOptions();
        while (args.Length > 0)
        {
            switch (args)
            {
                case ["--device", string id, ..]:
                    options = options with { Devices = [.. options.Devices, id] };
                    args = args[2..];
                    break;
                case ["--out", string file, ..]:
                    options = options with { Out = file };
                    args = args[2..];
                    break;
                case ["--ptx", string folder, ..]:
                    options = options with { PtxFolder = folder };
                    args = args[2..];
                    break;
                case ["--gate", string folder, "--limits", string file, ..]:
                    options = options with { GateFolder = folder, Limits = file };
                    args = args[4..];
                    break;
                case ["--only", string text, ..]:
                    options = options with { Only = text };
                    args = args[2..];
                    break;
                case ["--except", string text, ..]:
                    options = options with { Except = text };
                    args = args[2..];
                    break;
                case ["--cases", string text, ..]:
                    options = options with { Cases = text };
                    args = args[2..];
                    break;
                case ["--subset", ..]:
                    options = options with { IsSubset = true };
                    args = args[1..];
                    break;
                case ["--bench-seconds", string text, ..] when double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) && seconds >= 0:
                    options = options with { BenchSeconds = seconds };
                    args = args[2..];
                    break;
                case ["--common", ..]:
                    options = options with { IsCommon = true };
                    args = args[1..];
                    break;
                case ["--full", ..]:
                    options = options with { IsFull = true };
                    args = args[1..];
                    break;
                case ["--no-bench", ..]:
                    options = options with { IsMeasured = false };
                    args = args[1..];
                    break;
                default:
                    return null;
            }
        }

        return options;
    }
}
