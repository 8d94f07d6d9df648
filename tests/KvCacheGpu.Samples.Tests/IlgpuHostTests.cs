using System.Diagnostics;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Samples.Tests;

/// <summary>The sample of an ILGPU host runs as its reader would run it, and gives what a plain computation gives.</summary>
public sealed class IlgpuHostTests(ITestOutputHelper output)
{
    [Fact]
    public void On_the_emulator_it_equals_a_plain_computation() => Check("ilgpu-cpu", "ilgpu-cpu", new Dictionary<string, string>());

    [CudaTheory]
    [InlineData("")]
    [InlineData("SIMCUDA_ASYNC=1")]
    [InlineData("SIMCUDA_RACE=1 SIMCUDA_RACE_GLOBAL=1")]
    public void On_cuda_it_equals_a_plain_computation(string settings)
    {
        Check("cuda", "cuda:0", TestCuda.ChildVariables(settings));
        output.WriteLine($"CUDA: 1 cases under {settings}");
    }

    [Fact]
    public void It_says_how_it_is_used()
    {
        (int exit, _, string error) = Run(new Dictionary<string, string>(), "--device", "tpu");
        Assert.Equal((2, "usage: IlgpuHost [--device cuda|ilgpu-cpu]"), (exit, error.Trim()));
    }

    private static void Check(string device, string id, IReadOnlyDictionary<string, string> variables)
    {
        (int exit, string said, string error) = Run(variables, "--device", device);
        Assert.Equal((0, string.Empty), (exit, error));
        Assert.Equal(
            [$"{id}: 16 tokens through 4 layers on the host's accelerator and stream", "The result equals that of a plain computation."],
            said.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.TrimEnd('\r')));
    }

    private static (int Exit, string Output, string Error) Run(IReadOnlyDictionary<string, string> variables, params string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "KvCacheGpu.IlgpuHost.dll");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", ["exec", program, .. args])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach ((string name, string value) in variables)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string said = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, said, error.Result);
    }
}
