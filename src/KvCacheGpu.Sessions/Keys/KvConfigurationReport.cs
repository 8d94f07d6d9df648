namespace KvCacheGpu;

/// <summary>What is wrong with a configuration, and what a user should know of it.</summary>
/// <param name="Issues">What no engine can be made with.</param>
/// <param name="Warnings">What has no effect here, or an effect that may surprise.</param>
public sealed record KvConfigurationReport(IReadOnlyList<KvConfigurationIssue> Issues, IReadOnlyList<KvConfigurationWarning> Warnings)
{
    /// <summary>Whether there is no issue.</summary>
    public bool IsValid => Issues.Count == 0;
}

/// <summary>A setting that is refused.</summary>
/// <param name="Key">Its key in files, "gc_threshold".</param>
/// <param name="Expected">What it may be, or why it may not be this.</param>
/// <param name="Actual">What it is.</param>
public sealed record KvConfigurationIssue(string Key, string Expected, string Actual)
{
    /// <summary>"gc_threshold: expected above 0, at most 1, got 2".</summary>
    public override string ToString() => $"{Key}: expected {Expected}, got {Actual}";
}

/// <summary>A setting that works otherwise than it may seem.</summary>
/// <param name="Key">Its key in files, "enable_prefetch".</param>
/// <param name="Text">What there is to know.</param>
public sealed record KvConfigurationWarning(string Key, string Text)
{
    /// <summary>"enable_prefetch: inactive: ...".</summary>
    public override string ToString() => $"{Key}: {Text}";
}
