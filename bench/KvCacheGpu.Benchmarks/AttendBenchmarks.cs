using BenchmarkDotNet.Attributes;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>One decode step's attention of one layer with 8 KV heads, in the kernels alone: 0 B allocated.</summary>
[MemoryDiagnoser]
[Config(typeof(FractionsConfig))]
public class AttendBenchmarks
{
    private FilledCache? _cache;

    /// <summary>Device, sequences x context, head width, query heads per KV head, formats of keys and values.</summary>
    [ParamsSource(nameof(Cases))]
    public AttendCase Case { get; set; } = new("cpu", 1, 1024, 128, 4, PageFormat.F16, PageFormat.F16);

    public static IEnumerable<AttendCase> Cases =>
        from device in BenchDevices.All
        from width in new[] { 64, 128 }
        from size in new[] { (1, 1024), (1, 8192), (1, 32768), (32, 1024) }
        from sharing in new[] { 1, 4, 8 }
        from pair in Pairs
        where device != "ilgpu-cpu" || (size == (1, 1024) && width == 64 && sharing == 4)
        where pair.Key is PageFormat.F16 or PageFormat.I8 || (sharing == 4 && size.Item1 == 1)
        select new AttendCase(device, size.Item1, size.Item2, width, sharing, pair.Key, pair.Value);

    private static IEnumerable<(PageFormat Key, PageFormat Value)> Pairs =>
    [
        (PageFormat.F16, PageFormat.F16), (PageFormat.I8, PageFormat.I8), (PageFormat.I8, PageFormat.V4), (PageFormat.T4, PageFormat.V4),
        (PageFormat.T3, PageFormat.V3), (PageFormat.T2, PageFormat.V2), (PageFormat.FP8, PageFormat.FP8), (PageFormat.Q8, PageFormat.Q8),
        (PageFormat.Q4, PageFormat.Q4),
    ];

    [GlobalSetup]
    public void Fill() => _cache = new FilledCache(Case.Shape, (s, b) => KvDevice.CreateTier(Case.Device, s, b));

    [GlobalCleanup]
    public void Free() => _cache?.Dispose();

    [Benchmark]
    public void Attend() => _cache!.Attend();
}

/// <summary>A case of <see cref="AttendBenchmarks"/>.</summary>
public sealed record AttendCase(string Device, int Sequences, int Context, int Width, int Group, PageFormat Key, PageFormat Value)
{
    internal AttendShape Shape => new(Width, 8, Group, Sequences, Context, Key, Value);

    public override string ToString() => $"{Device} {Sequences}x{Context} d{Width} GQA{Group} {Key}/{Value}";
}
