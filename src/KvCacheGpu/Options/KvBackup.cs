namespace KvCacheGpu;

/// <summary>When blocks are backed up to the tiers below the device.</summary>
public enum KvBackup
{
    /// <summary>As soon as their pages are sealed: a prefix that is long in use is there for others, and survives the process.</summary>
    WhenSealed,

    /// <summary>Once no sequence holds them any longer: less is written, and what a sequence holds when the process ends is not there.</summary>
    WhenReleased,
}
