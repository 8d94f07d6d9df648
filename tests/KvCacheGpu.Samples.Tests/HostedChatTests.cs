using System.Diagnostics;

namespace KvCacheGpu.Samples.Tests;

/// <summary>The sample of a host runs as its reader would run it, and its second run goes on where the first has ended.</summary>
public sealed class HostedChatTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-hosted-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_conversation_goes_on_over_two_runs_and_metrics_are_told()
    {
        foreach (int tokens in (int[])[3, 6])
        {
            (int exit, string said, string error) = Run(Path.Combine(_folder, "sessions"));
            Assert.Equal((0, string.Empty), (exit, error));
            Assert.Contains($"The conversation has {tokens} tokens.", said, StringComparison.Ordinal);
            Assert.Contains("The cache is Healthy.", said, StringComparison.Ordinal);
            Assert.Contains("kvcache.tokens.appended", said, StringComparison.Ordinal);
            Assert.Contains("kvcache.name: chat", said, StringComparison.Ordinal);
        }

        Assert.Single(Directory.GetFiles(Path.Combine(_folder, "sessions"), "*.CURRENT"));
    }

    [Fact]
    public void It_says_how_it_is_used()
    {
        (int exit, _, string error) = Run();
        Assert.Equal((2, "usage: HostedChat FOLDER"), (exit, error.Trim()));
    }

    private static (int Exit, string Output, string Error) Run(params string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "KvCacheGpu.HostedChat.dll");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", ["exec", program, .. args])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string said = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, said, error.Result);
    }
}
