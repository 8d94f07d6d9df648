using System.Diagnostics;
using System.Text.Json;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>
/// The conformance suites on the CUDA driver under test, gpu-check in a process for each of its settings. A driver for a real device ignores the
/// settings and runs the same cases.
/// </summary>
public sealed class CudaConformanceTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("cuda-").FullName;

    /// <summary>
    /// All cases with races in shared and global memory as errors; a sixth with threads and blocks shuffled, and with lazy streams; contexts, and groups over
    /// two devices that cannot read each other's memory.
    /// </summary>
    [CudaTheory]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_RACE_GLOBAL=1", 500)]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_SEED=23", 100, "--subset")]
    [InlineData("SIMCUDA_ASYNC=1", 100, "--subset")]
    [InlineData("SIMCUDA_MMA_RZ=1", 1, "--only", "CudaSuite", "--cases", "F16/F16 open F16 width 64")]
    [InlineData("SIMCUDA_APPROX=1", 1, "--only", "CudaSuite", "--cases", "I8/I8 open F16 width 64")]
    [InlineData("SIMCUDA_FMA=1", 1, "--only", "CudaSuite", "--cases", "T4/V4 open F16 width 64")]
    [InlineData("SIMCUDA_SM=80 SIMCUDA_MMA_RZ=1", 1, "--only", "CudaSuite", "--cases", "BF16/BF16 open BF16 width 64")]
    [InlineData("SIMCUDA_DEVICES=2 SIMCUDA_PEER=0", 7, "--only", "ContextSuite.")]
    [InlineData("SIMCUDA_DEVICES=2 SIMCUDA_PEER=0 SIMCUDA_ASYNC=1", 3, "--only", "A_group_over_devices")]
    public async Task All_suites_hold(string settings, int least, params string[] options)
    {
        string report = Path.Combine(_folder, "report.json");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        string program = Path.Combine(AppContext.BaseDirectory, "KvCacheGpu.GpuCheck.dll");
        foreach (string argument in (string[])["exec", program, "--device", "cuda:0", "--no-bench", "--out", report, .. options])
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in TestCuda.ChildVariables(settings))
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string console = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();

        Assert.True(process.ExitCode == 0, $"gpu-check exits with {process.ExitCode} under {settings}\n{console}\n{await errors}");
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(report));
        JsonElement check = Assert.Single(document.RootElement.GetProperty("checks").EnumerateArray());
        int cases = check.GetProperty("groups").EnumerateArray().Sum(g => g.GetProperty("cases").GetInt32());
        output.WriteLine($"CUDA: {cases} cases under {settings}");
        Assert.Equal("cuda (tensor cores)", check.GetProperty("tier").GetString());
        Assert.True(cases >= least, $"expected {least} cases or more, got {cases}");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
