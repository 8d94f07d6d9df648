using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>Random operations on engines against dictionaries; the environment variable KVCACHE_SOAK multiplies them.</summary>
public sealed class RandomEngineTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-engine-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(true, 20_260_401, 40_000)]
    [InlineData(false, 20_260_402, 25_000)]
    public void An_engine_does_what_dictionaries_do(bool isExact, int seed, int operations)
    {
        using var run = new RandomEngineOperations(isExact, Path.Combine(_folder, "store"), seed);
        Exception? wrong = Record.Exception(() => run.Run(operations * Soak.Factor));
        string done = string.Join(", ", run.Done.OrderBy(d => d.Key, StringComparer.Ordinal).Select(d => $"{d.Key} {d.Value}"));
        output.WriteLine($"seed {seed}: {done}");
        Assert.True(wrong is null, $"seed {seed}, after {run.Done.Values.Sum()} operations: {wrong}");
        run.Finish();
        string[] kinds =
        [
            "put", "put many", "put refused", "put NaN", "put taken", "replace", "forward", "forward on", "forward refused", "forward over nothing",
            "save", "save nothing", "load", "load nothing", "load refused", "load elsewhere", "clear", "clear all",
        ];
        kinds = isExact ? kinds : [.. kinds, "replace refused"];
        Assert.All(kinds, kind => Assert.True(run.Done.GetValueOrDefault(kind) >= 5, $"{kind} ran {run.Done.GetValueOrDefault(kind)} times: {done}"));
    }
}
