namespace KvCacheGpu;

/// <summary>
/// Says whose a sequence is. Sequences reuse each other's prefixes only if tenant, adapter and salt agree; null and "" differ. Each is any text of at
/// most 64 KiB of UTF-8; half of a surrogate pair, which UTF-8 cannot encode, is refused by an <see cref="ArgumentException"/>.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KvSequenceOptions
{
    internal static readonly KvSequenceOptions Default = new();

    /// <summary>The tenant whose tokens they are. Pages are zeroed before another tenant's sequence takes them. The default value is null, which is a tenant like any other.</summary>
    public string? Tenant { get; init => field = SnapshotLimits.Checked(value, nameof(Tenant)); }

    /// <summary>The adapter (LoRA) that computes the keys and values. The default value is null: none.</summary>
    public string? Adapter { get; init => field = SnapshotLimits.Checked(value, nameof(Adapter)); }

    /// <summary>A text that keeps prefixes apart; a secret one hides from others which prompts came before. The default value is null.</summary>
    public string? Salt { get; init => field = SnapshotLimits.Checked(value, nameof(Salt)); }

    /// <summary>How long ranges of tokens are kept after the sequence. The default value is null: all tokens alike.</summary>
    public IReadOnlyList<KvRetentionRange>? Retention { get; init; }
}
