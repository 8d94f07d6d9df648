namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache doctor --json</c>.</summary>
internal sealed record DoctorReport(
    string Version, string Runtime, string Os, CpuReport Cpu, string AutoDevice, IReadOnlyList<DeviceReport> Devices, IReadOnlyList<FormatReport> Formats,
    ConfigurationReport Configuration);

/// <summary>The host's processor.</summary>
/// <param name="Architecture">"x64", "arm64".</param>
/// <param name="Cores">Logical cores.</param>
/// <param name="Features">Vector instructions that the runtime uses here.</param>
/// <param name="Simd">The kernels in use on it.</param>
internal sealed record CpuReport(string Architecture, int Cores, IReadOnlyList<string> Features, string Simd);

/// <summary>A device that a cache can live on, or why it cannot.</summary>
internal sealed record DeviceReport(string Id, string Kind, string Name, long MemoryBytes, bool Usable, string? Reason, IReadOnlyList<string> Formats);

/// <summary>A page format.</summary>
/// <param name="Name">Its name.</param>
/// <param name="BitsPerElement">Bits of an element.</param>
/// <param name="ScaleBytes">Bytes of scale per token and head.</param>
/// <param name="Keys">Whether keys may have it.</param>
/// <param name="Values">Whether values may have it.</param>
/// <param name="Partners">What goes with it in the other part: of a format that is for both, with it as keys.</param>
/// <param name="FullPrecision">Whether open pages may have it.</param>
/// <param name="Rotated">Whether vectors are rotated before they are stored.</param>
/// <param name="WidthMultiple">Head widths that it takes are multiples of this.</param>
internal sealed record FormatReport(string Name, int BitsPerElement, int ScaleBytes, bool Keys, bool Values, IReadOnlyList<string> Partners, bool FullPrecision, bool Rotated, int WidthMultiple);
