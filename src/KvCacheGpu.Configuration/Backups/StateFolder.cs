namespace KvCacheGpu.Configuration;

/// <summary>Where a project's backups, runs and journal lie, beside its files.</summary>
/// <remarks>
/// <code>
/// .kvcache/LOCK              taken by whoever writes, never removed; made once there is something to write
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
    public const string LockName = "LOCK";
    public const string Lock = Name + "/" + LockName;
    public const string BackupsName = "backups";
    public const string Backups = Name + "/" + BackupsName;
    public const string RunsName = "runs";
    public const string Runs = Name + "/" + RunsName;
}
