namespace KvCacheGpu.Benchmarks;

/// <summary>The devices that suites run on: those of this machine that are usable, the emulator only where a case is small.</summary>
internal static class BenchDevices
{
    private static readonly Lazy<string[]> Usable = new(() => [.. KvDevice.List().Where(d => d.Usable).Select(d => d.Id)]);

    /// <summary>cuda:0 where there is one, then cpu.</summary>
    public static IEnumerable<string> Fast => Usable.Value.Where(id => id is "cpu" or "cuda:0");

    /// <summary>Those and ilgpu-cpu, which runs device code some hundred times slower.</summary>
    public static IEnumerable<string> All => Fast.Append("ilgpu-cpu");
}
