namespace KvCacheGpu.TestKit;

/// <summary>The CUDA driver that tests run on.</summary>
public static class TestCuda
{
    /// <summary>The environment variable that names the driver's folder.</summary>
    public const string Variable = "KVCACHE_TEST_CUDA";

    /// <summary>The folder that holds libcuda.so.1, or null.</summary>
    public static string? Folder { get; } = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } folder ? folder : null;

    /// <summary>The reason why tests on CUDA are skipped; null if they are not.</summary>
    public static string? Skip { get; } = Folder is null ? $"{Variable} names no folder with a CUDA driver (.ci/run sets it where it has one)" : null;

    /// <summary>
    /// The environment of a process that sees the driver. Tests start one for each setting of the driver, which reads its settings once;
    /// their own process must not see it, because a cache without a device of its own would take it.
    /// </summary>
    /// <param name="settings">Further variables, <c>NAME=value</c>, separated by spaces.</param>
    public static IReadOnlyDictionary<string, string> ChildVariables(string settings = "")
    {
        var variables = new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = Folder! };
        foreach (string setting in settings.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            int equals = setting.IndexOf('=', StringComparison.Ordinal);
            variables[setting[..equals]] = setting[(equals + 1)..];
        }

        return variables;
    }
}

/// <summary>A fact that needs CUDA; skipped, with the reason, if there is none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class CudaFactAttribute : Xunit.FactAttribute
{
    public CudaFactAttribute() => Skip = TestCuda.Skip;
}

/// <summary>A theory that needs CUDA; skipped, with the reason, if there is none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class CudaTheoryAttribute : Xunit.TheoryAttribute
{
    public CudaTheoryAttribute() => Skip = TestCuda.Skip;
}
