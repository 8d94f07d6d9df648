namespace KvCacheGpu;

/// <summary>
/// Quotas of tenants, and what tenants hold. Members may be called from any thread; they throw <see cref="ObjectDisposedException"/> after the cache's disposal.
/// </summary>
/// <remarks>
/// Each sequence counts for its tenant (<see cref="KvSequenceOptions.Tenant"/>) what it lists itself: all its tokens, dropped ones included, and the bytes of its
/// pages, <see cref="KvSequence.AllocatedBytes"/>. A page that forks share, or that came from the prefix index, counts in full in every sequence that lists
/// it, so that what one sequence does never changes what another counts. Pages that only the prefix index keeps count for nobody. A step counts its
/// tokens and its new pages from its begin on, a load all that it brings. Steps, forks, loads, imports and <see cref="KvSequence.Reuse"/> that
/// would exceed the quota are refused before they change anything; the room of the page copies that a call makes on its way, and the bookkeeping
/// of sequences, are not counted. If bytes lack for a step, the policy may make room, out of the same tenant's sequences only and of pages that none of them shares.
/// </remarks>
public static class KvCacheTenants
{
    /// <summary>
    /// Limits what a tenant's sequences may hold together, from now on; <see cref="KvTenantQuota.None"/> takes the limit away. A tenant that holds more
    /// already keeps it, and can hold no more until it is below.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="tenant">The tenant, whether it has sequences or not; null stands for the sequences without one.</param>
    /// <param name="quota">The limit.</param>
    public static void SetTenantQuota(this KvCache cache, string? tenant, KvTenantQuota quota)
    {
        ArgumentNullException.ThrowIfNull(quota);
        using (cache.State.EnterLive())
        {
            cache.State.Tenants.SetQuota(SnapshotLimits.Checked(tenant, nameof(tenant)), quota);
        }
    }

    /// <summary>Counts what a tenant's sequences hold. Takes time with <see cref="KvCacheOptions.MaxSequences"/>, not with tokens.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="tenant">The tenant; null stands for the sequences without one.</param>
    public static KvTenantUsage GetTenantUsage(this KvCache cache, string? tenant)
    {
        using (cache.State.EnterLive())
        {
            return cache.State.Tenants.Find(tenant) is { } account
                ? TenantRoom.UsageOf(cache.State, account) : new KvTenantUsage(tenant, 0, 0, 0, KvTenantQuota.None);
        }
    }

    /// <summary>Counts what every tenant holds that has a sequence, in no order.</summary>
    public static IReadOnlyList<KvTenantUsage> GetTenantUsages(this KvCache cache)
    {
        using (cache.State.EnterLive())
        {
            return [.. cache.State.Tenants.Live.Select(account => TenantRoom.UsageOf(cache.State, account))];
        }
    }
}
