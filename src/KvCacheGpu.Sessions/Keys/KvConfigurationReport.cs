namespace KvCacheGpu;

/// <summary>What is refused in a configuration, and what a user should know of it.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Issues">Keys that no engine can be made with.</param>
/// <param name="Warnings">Keys that have no effect here, or one that may surprise.</param>
public sealed record KvConfigurationReport(IReadOnlyList<KvConfigurationIssue> Issues, IReadOnlyList<KvConfigurationWarning> Warnings)
{
    /// <summary>True if there is no issue.</summary>
    public bool IsValid => Issues.Count == 0;
}

/// <summary>A key, or an option of the cache, that is refused.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Key">The key in files, "gc_threshold"; or the option, "KeyFormat".</param>
/// <param name="Expected">The values that it takes, or why it does not take this one.</param>
/// <param name="Actual">Its value.</param>
public sealed record KvConfigurationIssue(string Key, string Expected, string Actual)
{
    /// <summary>"gc_threshold: expected above 0, at most 1, got 2".</summary>
    public override string ToString() => $"{Key}: expected {Expected}, got {Actual}";
}

/// <summary>A key that does not do what it may seem to.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Key">Its key in files, "enable_prefetch".</param>
/// <param name="Text">Why.</param>
public sealed record KvConfigurationWarning(string Key, string Text)
{
    /// <summary>"enable_prefetch: inactive: ...".</summary>
    public override string ToString() => $"{Key}: {Text}";
}
