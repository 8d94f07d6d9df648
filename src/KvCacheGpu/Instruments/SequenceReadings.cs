namespace KvCacheGpu;

/// <summary>Sequences of a cache, and what they hold: by tenant where the options say so. Callers are inside of the pool's gate.</summary>
internal static class SequenceReadings
{
    public static void Sequences(MeasuredCache cache, Readings<long> to) => Read(cache, to, usage => usage.Sequences, isOfEachPart: false);

    public static void Tokens(MeasuredCache cache, Readings<long> to) => Read(cache, to, usage => usage.Tokens, isOfEachPart: false);

    public static void Memory(MeasuredCache cache, Readings<long> to) => Read(cache, to, usage => usage.Bytes, isOfEachPart: true);

    public static void Limit(MeasuredCache cache, Readings<long> to)
    {
        if (cache.CountsSequences)
        {
            to.Add(cache.State.Options.MaxSequences, cache.Own);
        }
    }

    private static void Read(MeasuredCache cache, Readings<long> to, Func<KvTenantUsage, long> amount, bool isOfEachPart)
    {
        if (!isOfEachPart && !cache.CountsSequences)
        {
            return;
        }

        // Zero is told, too.
        to.Add(0, cache.Own);
        foreach (TenantAccount account in cache.State.Tenants.Live)
        {
            KvTenantUsage usage = TenantRoom.UsageOf(cache.State, account);
            to.Add(amount(usage), cache.State.Options.MeasureTenants && usage.Tenant is { } tenant ? [.. cache.Own, Tags.Of(Tags.Tenant, tenant)] : cache.Own);
        }
    }
}
