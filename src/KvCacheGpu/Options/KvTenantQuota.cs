namespace KvCacheGpu;

/// <summary>What the sequences of one tenant may hold together. <see cref="KvCacheTenants"/> says what counts. Thread safety: it never changes.</summary>
public sealed record KvTenantQuota
{
    /// <summary>No limit.</summary>
    public static KvTenantQuota None { get; } = new();

    /// <summary>Bytes of pages, 0 or more. The default value is null: no limit.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Below 0.</exception>
    public long? Bytes { get; init => field = NotNegative(value, nameof(Bytes)); }

    /// <summary>Tokens, 0 or more. The default value is null: no limit.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Below 0.</exception>
    public long? Tokens { get; init => field = NotNegative(value, nameof(Tokens)); }

    private static long? NotNegative(long? value, string name) => value is null or >= 0
        ? value : throw new ArgumentOutOfRangeException(name, value, "expected 0 or more, or null");
}

/// <summary>What the sequences of one tenant hold, and what they may. Thread safety: it never changes.</summary>
/// <param name="Tenant">The tenant; null stands for the sequences without one.</param>
/// <param name="Bytes">Bytes of the pages that its sequences list. A page that several of them list counts in each.</param>
/// <param name="Tokens">Tokens of its sequences, dropped ones counted, and those of steps and loads under way.</param>
/// <param name="Sequences">Its sequences that live.</param>
/// <param name="Quota">Its quota; <see cref="KvTenantQuota.None"/> if it has none.</param>
public readonly record struct KvTenantUsage(string? Tenant, long Bytes, long Tokens, int Sequences, KvTenantQuota Quota);
