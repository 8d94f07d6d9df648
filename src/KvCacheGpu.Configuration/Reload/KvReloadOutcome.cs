namespace KvCacheGpu.Configuration;

/// <summary>A value that a changed file has in another's place.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Key">The key.</param>
/// <param name="From">The value in force before.</param>
/// <param name="To">What the sources say now.</param>
/// <param name="Origin">Where they say it.</param>
public readonly record struct KvSettingChange(string Key, string? From, string? To, KvSettingOrigin Origin)
{
    /// <summary>"gc_threshold 0.8 -> 0.7 (kv_cache.yaml:4)".</summary>
    public override string ToString() => $"{Key} {From ?? "nothing"} -> {To ?? "nothing"} ({Origin})";
}

/// <summary>What became of a change of sources.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Applied">What a running engine took.</param>
/// <param name="Refused">What keeps its old value until the next start.</param>
/// <param name="Error">Why nothing was taken: a source is malformed, or gone; null where all could be read.</param>
public sealed record KvReloadOutcome(IReadOnlyList<KvSettingChange> Applied, IReadOnlyList<KvSettingChange> Refused, Exception? Error)
{
    /// <summary>Why a key of <see cref="Refused"/> is.</summary>
    public static string Reason(KvSettingChange change) =>
        $"{change}: refused, the cache is made with it; the next start takes it, until then {change.From ?? "nothing"} stays";

    /// <summary>True if there was nothing to do.</summary>
    public bool IsUnchanged => Error is null && Applied.Count == 0 && Refused.Count == 0;
}
