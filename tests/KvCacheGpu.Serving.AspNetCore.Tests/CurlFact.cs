namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>A fact about what curl reads; skipped, with that reason, where there is no curl.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class CurlFactAttribute : FactAttribute
{
    public CurlFactAttribute() => Skip = (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, "curl"))) ? null : "there is no curl";
}
