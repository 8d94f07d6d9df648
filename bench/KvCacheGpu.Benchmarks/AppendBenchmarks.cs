using BenchmarkDotNet.Attributes;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>Append of one layer with 8 KV heads of width 128: one token (decode) and a chunk of 512 (prefill).</summary>
[MemoryDiagnoser]
[Config(typeof(FractionsConfig))]
public class AppendBenchmarks
{
    private AppendCache? _cache;

    [ParamsSource(nameof(Devices))]
    public string Device { get; set; } = "cpu";

    [Params(1, 512)]
    public int Tokens { get; set; }

    [Params(PageFormat.F16, PageFormat.F32)]
    public PageFormat Open { get; set; }

    public static IEnumerable<string> Devices => BenchDevices.All;

    [GlobalSetup]
    public void Fill() => _cache = new AppendCache(Device, Tokens, Open);

    [GlobalCleanup]
    public void Free() => _cache?.Dispose();

    [Benchmark]
    public void Append() => _cache!.Append();
}

/// <summary>Encode of full pages, as sealing does it: 8 KV heads x 8 pages of 64 tokens, width 128, from F16.</summary>
[MemoryDiagnoser]
[Config(typeof(FractionsConfig))]
public class EncodeBenchmarks
{
    /// <summary>Tokens whose pages are encoded.</summary>
    public const int Tokens = 512;

    private AppendCache? _cache;

    [ParamsSource(nameof(Devices))]
    public string Device { get; set; } = "cpu";

    [ParamsSource(nameof(KeyFormats))]
    public PageFormat Key { get; set; } = PageFormat.I8;

    public static IEnumerable<string> Devices => BenchDevices.All;

    public static IEnumerable<PageFormat> KeyFormats => Pairs.Select(p => p.Key);

    /// <summary>The pairs that encoding is measured for.</summary>
    public static (PageFormat Key, PageFormat Value)[] Pairs { get; } =
    [
        (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T2, PageFormat.V2), (PageFormat.FP8, PageFormat.FP8), (PageFormat.Q8, PageFormat.Q8),
        (PageFormat.Q4, PageFormat.Q4),
    ];

    [GlobalSetup]
    public void Fill()
    {
        _cache = new AppendCache(Device, Tokens, PageFormat.F16, Key, Pairs.First(p => p.Key == Key).Value);
        _cache.Append();
    }

    [GlobalCleanup]
    public void Free() => _cache?.Dispose();

    [Benchmark]
    public void Encode() => _cache!.Encode();
}
