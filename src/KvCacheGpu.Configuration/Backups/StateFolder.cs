namespace KvCacheGpu.Configuration;

/// <summary>Where a project's backups, runs and journal lie, beside its files.</summary>
/// <remarks>
/// <code>
/// .kvcache/LOCK              taken by whoever writes, never removed
/// .kvcache/JOURNAL           a change of files that has begun and not ended
/// .kvcache/backups/ID.backup
/// .kvcache/runs/ID.run       an upgrade, step by step
/// </code>
/// </remarks>
internal static class StateFolder
{
    public const string Name = ".kvcache";
    public const string JournalName = "JOURNAL";
    public const string Journal = Name + "/" + JournalName;
    public const string Lock = Name + "/LOCK";
    public const string Backups = Name + "/backups";
    public const string Runs = Name + "/runs";
}
