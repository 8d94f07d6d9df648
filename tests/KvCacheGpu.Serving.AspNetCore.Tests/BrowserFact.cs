namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>A fact about a page in the browser that KVCACHE_TEST_BROWSER names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class BrowserFactAttribute : FactAttribute
{
    /// <summary>The path of a chromium, as <c>.ci/browser</c> prints it.</summary>
    public const string Variable = "KVCACHE_TEST_BROWSER";

    public BrowserFactAttribute() => Skip = File.Exists(Environment.GetEnvironmentVariable(Variable)) ? null : $"{Variable} names no browser";
}
