using System.Diagnostics;

namespace KvCacheGpu.Import.Tests;

/// <summary>A theory that needs PyTorch in Debian's Python; skipped, with that reason, if it is missing.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class TorchTheoryAttribute : TheoryAttribute
{
    private const string Python = "/usr/bin/python3";

    private static readonly Lazy<bool> HasTorch = new(() => File.Exists(Python) && Run("-c", "import torch").Exit == 0);

    public TorchTheoryAttribute() => Skip = HasTorch.Value ? null : $"{Python} has no torch (Debian: python3-torch)";

    /// <summary>Runs Python.</summary>
    internal static (int Exit, string Output, string Error) Run(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(Python, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
