using System.Diagnostics;
using System.Text.Json;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>
/// Runs gpu-check on the CUDA driver under test, in a process for each of its settings. A driver for a real device ignores the settings and runs the same cases.
/// </summary>
public abstract class CudaRuns(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("cuda-").FullName;

    /// <summary>Holds the suites that the options choose, of <paramref name="least"/> cases or more.</summary>
    protected async Task HoldAsync(string settings, int least, string[] options)
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

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }
}
