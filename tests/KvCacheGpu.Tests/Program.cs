using KvCacheGpu.Tests.Tiers;

namespace KvCacheGpu.Tests;

/// <summary>The program that a test starts as another process, to kill it.</summary>
public static class Program
{
    /// <summary>Runs a child.</summary>
    public static Task<int> Main(string[] args) => args is ["write-blocks", string folder, string first]
        ? WritingChild.RunAsync(folder, int.Parse(first))
        : Task.FromResult(2);
}
