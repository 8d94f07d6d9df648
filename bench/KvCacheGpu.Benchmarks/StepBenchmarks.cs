using BenchmarkDotNet.Attributes;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>A whole decode step of one sequence through the engine, begin to rollback: 2 layers, 8 KV heads, width 128, GQA 4, 1k tokens before it.</summary>
[MemoryDiagnoser]
public class StepBenchmarks
{
    private static readonly KvGeometry Geometry = new(layers: 2, queryHeads: 32, kvHeads: 8, keyWidth: 128);

    private readonly float[] _keys = FilledCache.Gaussian(new Random(1), 512 * 8 * 128);
    private readonly float[] _queries = FilledCache.Gaussian(new Random(2), 512 * 32 * 128);
    private readonly float[] _output = new float[512 * 32 * 128];
    private readonly int[] _ids = new int[512];
    private KvCache? _cache;
    private KvSequence? _sequence;

    [Params(PageFormat.F16, PageFormat.I8)]
    public PageFormat Format { get; set; }

    [GlobalSetup]
    public void Fill()
    {
        _cache = new KvCache(Geometry, new KvCacheOptions { Device = "cpu", MaxTokens = 4096, MaxSequences = 1, KeyFormat = Format, ValueFormat = Format });
        _sequence = _cache.CreateSequence();
        for (int chunk = 0; chunk < 2; chunk++)
        {
            Step(512, commit: true);
        }
    }

    [GlobalCleanup]
    public void Free()
    {
        _sequence?.Dispose();
        _cache?.Dispose();
    }

    /// <summary>Begin, append and attend each layer, abandon: the sequence is as before, so that every run measures the same.</summary>
    [Benchmark]
    public void Decode() => Step(1, commit: false);

    private void Step(int tokens, bool commit)
    {
        using KvStep step = _sequence!.Begin(_ids.AsSpan(0, tokens));
        for (int layer = 0; layer < Geometry.Layers; layer++)
        {
            ReadOnlySpan<float> keys = _keys.AsSpan(0, tokens * 8 * 128);
            step.Append(layer, keys, keys);
            step.Attend(layer, (ReadOnlySpan<float>)_queries.AsSpan(0, tokens * 32 * 128), _output.AsSpan(0, tokens * 32 * 128));
        }

        if (commit)
        {
            step.Commit();
        }
    }
}
