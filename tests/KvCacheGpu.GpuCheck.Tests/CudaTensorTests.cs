using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>Attention on tensor cores on the CUDA driver under test. A class of its own: its kernels take as long to compile as those of all other suites.</summary>
public sealed class CudaTensorTests(ITestOutputHelper output) : CudaRuns(output)
{
    /// <summary>The common cases with races in shared and global memory as errors; a few with other sums and roundings that a device may have.</summary>
    [CudaTheory]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_RACE_GLOBAL=1", 140, "--only", "CudaSuite", "--common")]
    [InlineData("SIMCUDA_MMA_RZ=1", 2, "--only", "CudaSuite", "--cases", "F16/F16 open F16 width 64/64 page 64")]
    [InlineData("SIMCUDA_APPROX=1", 2, "--only", "CudaSuite", "--cases", "I8/I8 open F16 width 64/64 page 64")]
    [InlineData("SIMCUDA_FMA=1", 2, "--only", "CudaSuite", "--cases", "T4/V4 open F16 width 64/64 page 64")]
    [InlineData("SIMCUDA_SM=80 SIMCUDA_MMA_RZ=1", 2, "--only", "CudaSuite", "--cases", "BF16/BF16 open BF16 width 64/64 page 64")]
    public Task Attention_on_tensor_cores_holds(string settings, int least, params string[] options) => HoldAsync(settings, least, options);
}
