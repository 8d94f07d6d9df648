using System.CommandLine;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;
using System.Text.Json.Serialization;
using KvCacheGpu.Configuration;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache doctor</c>: the devices and formats of this machine.</summary>
internal static class DoctorCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<bool> json = Choice.Json();
        Command command = new("doctor", "Version, processor features, devices with what each can do, and the configuration in force.") { json };
        TierOptions tierOptions = new TierOptions().AddTo(command);
        command.SetAction(parsed =>
        {
            using OpenTiers tiers = tierOptions.Open(parsed);
            DoctorReport report = Look() with { Tiers = [.. tiers.Tiers.Select(TierHealth.Of)] };
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

    private static DoctorReport Look()
    {
        // Every tier runs every format; only the formats limit the widths.
        FormatReport[] formats = [.. Enum.GetValues<PageFormat>().Select(f => new FormatReport(
            f.Name(), f.BitsPerElement(), f.ScaleBytes(128), f.IsForKeys(), f.IsForValues(), PartnersOf(f), f.IsFullPrecision(), f.IsRotated(), f.WidthMultiple()))];
        string[] names = [.. formats.Select(f => f.Name)];
        string version = typeof(KvCache).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "unknown";
        return new DoctorReport(
            version,
            RuntimeInformation.FrameworkDescription,
            RuntimeInformation.OSDescription,
            new CpuReport(RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(), Environment.ProcessorCount, Features(), SimdName()),
            KvDevice.Resolve("auto").Id,
            [.. KvDevice.List().Select(d => new DeviceReport(
                d.Id, d.Kind.ToString().ToLowerInvariant(), d.Name, d.MemoryBytes, d.Usable, d.Reason is { Length: > 0 } reason ? reason : null, d.Usable ? names : [], CudaReport.Of(d.Cuda)))],
            formats,
            ConfigurationReport.OfAny(KvConfigurationSources.Find()));
    }

    private static string[] PartnersOf(PageFormat format) =>
    [
        .. Enum.GetValues<PageFormat>()
            .Where(other => format.IsForKeys() ? PageFormats.IsPair(format, other) : PageFormats.IsPair(other, format))
            .Select(other => other.Name()),
    ];

    private static string[] Features() =>
    [
        .. new (string Name, bool Has)[]
        {
            ("avx512", Avx512F.IsSupported), ("avx2", Avx2.IsSupported), ("fma", Fma.IsSupported), ("neon", AdvSimd.IsSupported),
        }
        .Where(f => f.Has).Select(f => f.Name),
    ];

    // The SIMD tier makes the same choice.
    private static string SimdName() =>
        Vector512.IsHardwareAccelerated ? "simd-512" : Vector256.IsHardwareAccelerated ? "simd-256" : "simd-scalar";

    private static void Print(Terminal terminal, DoctorReport report)
    {
        TextWriter output = terminal.Output;
        output.WriteLine($"kvcache {report.Version} on {report.Runtime}, {report.Os}");
        output.WriteLine($"processor: {report.Cpu.Architecture}, {report.Cpu.Cores} logical cores, {string.Join(' ', report.Cpu.Features)}; kernels {report.Cpu.Simd}");
        output.WriteLine();
        Table devices = terminal.NewTable("device", "name", "#memory", "usable", "formats", "remark");
        foreach (DeviceReport d in report.Devices)
        {
            string usable = !d.Usable ? "no" : d.Id == report.AutoDevice ? "yes (auto)" : "yes";
            devices.AddRow(d.Id, Markup.Escape(d.Name), Readable.Bytes(d.MemoryBytes), usable, string.Join(' ', d.Formats), Markup.Escape(d.Reason ?? string.Empty));
        }

        terminal.Write(devices);
        foreach (DeviceReport d in report.Devices.Where(d => d.Cuda is not null))
        {
            CudaReport cuda = d.Cuda!;
            output.WriteLine(
                $"{d.Id}: driver for CUDA {cuda.DriverVersion}; calls for events, streams and contexts {(cuda.StreamCalls ? "found" : "missing")}; "
                + $"primary context {(cuda.PrimaryContextActive ? "active" : "not active")} in this process; order of memory accesses {(cuda.MemoryOrderKept ? "kept" : "not kept")} by the compiler");
            output.WriteLine(cuda.TensorCores is { } tensors
                ? $"{d.Id}: attention on tensor cores for {string.Join(' ', tensors.Pairs)} at head widths {string.Join(' ', tensors.HeadWidths)} and {string.Join(' ', tensors.PageTokens)} tokens a page; "
                    + "portable kernels for the rest"
                : $"{d.Id}: attention by the portable kernels; tensor cores take it from compute capability 8.0 and CUDA 11.7 on");
        }

        Table formats = terminal.NewTable("format", "#bits/\nelement", "#scale bytes/\ntoken", "of", "goes with", "open pages", "rotated", "head widths");
        foreach (FormatReport f in report.Formats)
        {
            formats.AddRow(
                f.Name,
                $"{f.BitsPerElement}",
                $"{f.ScaleBytes}",
                f.Keys && f.Values ? "both" : f.Keys ? "keys" : "values",
                f.Name == PageFormat.I8.Name() ? "all" : string.Join(' ', f.Partners),
                f.FullPrecision ? "yes" : "no",
                f.Rotated ? "yes" : "no",
                $"{KvGeometry.MinWidth}..{KvGeometry.MaxWidth}, multiples of {f.WidthMultiple}");
        }

        terminal.Write(formats);
        foreach (TierHealth tier in report.Tiers ?? [])
        {
            output.WriteLine($"tier {tier.Name}: {tier.Remark}");
        }

        output.WriteLine($"configuration: {report.Configuration.Summary()}");
        foreach (string warning in report.Configuration.Warnings)
        {
            output.WriteLine($"  {warning}");
        }
    }
}

/// <summary>The document of <c>kvcache doctor --json</c>.</summary>
internal sealed record DoctorReport(
    string Version, string Runtime, string Os, CpuReport Cpu, string AutoDevice, IReadOnlyList<DeviceReport> Devices, IReadOnlyList<FormatReport> Formats,
    ConfigurationReport Configuration)
{
    /// <summary>The tiers that the command names; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TierHealth>? Tiers { get; init => field = value is { Count: > 0 } ? value : null; }
}

/// <summary>Whether a tier can be used.</summary>
/// <param name="Name">"host", "disk", "redis".</param>
/// <param name="Usable">True if it can.</param>
/// <param name="Remark">What there is to know: bytes, the time of an answer, or why it cannot be used.</param>
internal sealed record TierHealth(string Name, bool Usable, string Remark)
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(2);

    /// <summary>Asks a tier.</summary>
    public static TierHealth Of(KvTier tier)
    {
        if (tier is not KvRedisTier redis)
        {
            return new TierHealth(tier.Name, true, $"{Readable.Bytes(tier.BytesInUse ?? 0)} of {Readable.Bytes(tier.BytesLimit ?? 0)}");
        }

        return redis.PingAsync(_patience).GetAwaiter().GetResult() is { } time
            ? new TierHealth(tier.Name, true, string.Create(CultureInfo.InvariantCulture, $"answers within {time.TotalMilliseconds:F1} ms"))
            : new TierHealth(tier.Name, false, $"no answer within {_patience.TotalSeconds} s: every block is a miss there");
    }
}

/// <summary>The host's processor.</summary>
/// <param name="Architecture">"x64", "arm64".</param>
/// <param name="Cores">Logical cores.</param>
/// <param name="Features">Vector instructions that the runtime uses here.</param>
/// <param name="Simd">The kernels that run on it.</param>
internal sealed record CpuReport(string Architecture, int Cores, IReadOnlyList<string> Features, string Simd);

/// <summary>A device for a cache, or the reason why it cannot have one.</summary>
/// <param name="Id">Its name in configurations.</param>
/// <param name="Kind">The kind of hardware.</param>
/// <param name="Name">Its own name.</param>
/// <param name="MemoryBytes">Its memory.</param>
/// <param name="Usable">True if a cache can be made on it.</param>
/// <param name="Reason">Why it is not usable, or what a user should know.</param>
/// <param name="Formats">Formats that it runs.</param>
/// <param name="Cuda">What its CUDA driver offers; null on other devices.</param>
internal sealed record DeviceReport(string Id, string Kind, string Name, long MemoryBytes, bool Usable, string? Reason, IReadOnlyList<string> Formats, CudaReport? Cuda);

/// <summary>A CUDA device as its driver describes it.</summary>
/// <param name="DriverVersion">The version of CUDA that the driver speaks.</param>
/// <param name="StreamCalls">True if it has the calls for events, streams and contexts that a cache needs.</param>
/// <param name="PrimaryContextActive">True if something in this process holds the primary context of the device.</param>
/// <param name="MemoryOrderKept">True if ILGPU's compiler could be set to keep the order of loads and stores.</param>
/// <param name="TensorCores">The pages that its tensor cores attend; null if the portable kernels attend all.</param>
internal sealed record CudaReport(string DriverVersion, bool StreamCalls, bool PrimaryContextActive, bool MemoryOrderKept, TensorCoreReport? TensorCores)
{
    /// <summary>The same out of what the library tells.</summary>
    public static CudaReport? Of(KvCudaInfo? cuda) =>
        cuda is null ? null : new CudaReport(
            cuda.DriverVersion,
            cuda.HasStreamCalls,
            cuda.IsPrimaryContextActive,
            cuda.KeepsMemoryOrder,
            cuda.TensorCores is { } tensors ? new TensorCoreReport(tensors.Pairs, tensors.HeadWidths, tensors.PageTokens) : null);
}

/// <summary>The pages that tensor cores attend.</summary>
/// <param name="Pairs">Formats of keys and values.</param>
/// <param name="HeadWidths">Head widths of keys and values.</param>
/// <param name="PageTokens">Tokens of a page.</param>
internal sealed record TensorCoreReport(IReadOnlyList<string> Pairs, IReadOnlyList<string> HeadWidths, IReadOnlyList<int> PageTokens);

/// <summary>A page format.</summary>
/// <param name="Name">Its name.</param>
/// <param name="BitsPerElement">Bits of an element.</param>
/// <param name="ScaleBytes">Bytes of scale per token and head.</param>
/// <param name="Keys">True if keys may have it.</param>
/// <param name="Values">True if values may have it.</param>
/// <param name="Partners">Formats of the other part that can be paired with it; if it is a format for both, the formats of values with this one for keys.</param>
/// <param name="FullPrecision">True if open pages may have it.</param>
/// <param name="Rotated">True if vectors are rotated before they are stored.</param>
/// <param name="WidthMultiple">The head widths that it takes are multiples of this number.</param>
internal sealed record FormatReport(string Name, int BitsPerElement, int ScaleBytes, bool Keys, bool Values, IReadOnlyList<string> Partners, bool FullPrecision, bool Rotated, int WidthMultiple);
