namespace KvCacheGpu;

/// <summary>
/// Whose a sequence is. Sequences reuse each other's prefixes only where tenant, adapter and salt agree; null and "" differ. Each is any text of at
/// most 64 KiB of UTF-8; half of a surrogate pair, which UTF-8 cannot say, is refused by an <see cref="ArgumentException"/>.
/// </summary>
public sealed record KvSequenceOptions
{
    internal static readonly KvSequenceOptions Default = new();

    /// <summary>Whose tokens they are. Pages are zeroed before another tenant's sequence takes them. The default value is null, a tenant like others.</summary>
    public string? Tenant { get; init => field = SnapshotLimits.Checked(value, nameof(Tenant)); }

    /// <summary>The adapter (LoRA) that computes the keys and values. The default value is null: none.</summary>
    public string? Adapter { get; init => field = SnapshotLimits.Checked(value, nameof(Adapter)); }

    /// <summary>What else keeps prefixes apart; a secret one hides from others what was asked before. The default value is null.</summary>
    public string? Salt { get; init => field = SnapshotLimits.Checked(value, nameof(Salt)); }

    /// <summary>How long ranges of tokens are worth keeping after the sequence. The default value is null: all alike.</summary>
    public IReadOnlyList<KvRetentionRange>? Retention { get; init; }
}
