using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>The conformance suites on the CUDA driver under test; of attention on tensor cores <see cref="CudaTensorTests"/> holds most, beside this.</summary>
public sealed class CudaConformanceTests(ITestOutputHelper output) : CudaRuns(output)
{
    /// <summary>
    /// All cases with races in shared and global memory as errors; a sixth with threads and blocks shuffled and lazy streams; contexts, and groups over
    /// two devices that cannot read each other's memory.
    /// </summary>
    [CudaTheory]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_RACE_GLOBAL=1", 500, "--except", "CudaSuite")]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_SEED=23 SIMCUDA_ASYNC=1", 100, "--subset")]
    [InlineData("SIMCUDA_DEVICES=2 SIMCUDA_PEER=0", 7, "--only", "ContextSuite.")]
    [InlineData("SIMCUDA_DEVICES=2 SIMCUDA_PEER=0 SIMCUDA_ASYNC=1", 3, "--only", "A_group_over_devices")]
    public Task All_suites_hold(string settings, int least, params string[] options) => HoldAsync(settings, least, options);
}
