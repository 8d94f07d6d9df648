using System.Diagnostics;
using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>The built program, started as a user starts it.</summary>
public sealed class ProcessTests
{
    [Fact]
    public async Task The_program_runs_from_any_folder()
    {
        (int exit, string output, string error) = await Start("run", "--prompt", "In the beginning", "--max-new-tokens", "4", "--json");

        Assert.Equal((0, string.Empty), (exit, error));
        Assert.Equal(Tool.Json("run", "--prompt", "In the beginning", "--max-new-tokens", "4").Ints("tokens"), JsonDocument.Parse(output).RootElement.Ints("tokens"));
    }

    [Fact]
    public async Task Its_exit_code_and_stderr_are_those_of_the_entry_point()
    {
        Assert.Equal((2, string.Empty), Head(await Start("run", "--save", "x")));
        Assert.Equal((1, string.Empty), Head(await Start("run", "--device", "cuda:99")));
        (int exit, string output, string error) = await Start("run", "--key-format", "q4");
        Assert.Equal((2, string.Empty, Tool.Run("run", "--key-format", "q4").Error), (exit, output, error));
    }

    private static (int Exit, string Output) Head((int Exit, string Output, string Error) result) => (result.Exit, result.Output);

    internal static Task<(int Exit, string Output, string Error)> Start(params string[] args) => Start(new Dictionary<string, string>(), args);

    /// <summary>The same with variables in its environment.</summary>
    internal static async Task<(int Exit, string Output, string Error)> Start(IReadOnlyDictionary<string, string> variables, params string[] args)
    {
        ProcessStartInfo info = new(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach (string arg in (string[])["exec", Path.Combine(AppContext.BaseDirectory, "kvcache.dll"), .. args])
        {
            info.ArgumentList.Add(arg);
        }

        foreach ((string name, string value) in variables)
        {
            info.Environment[name] = value;
        }

        using Process process = Process.Start(info)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }
}
