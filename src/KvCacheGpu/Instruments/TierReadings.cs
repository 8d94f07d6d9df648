namespace KvCacheGpu;

/// <summary>Lower tiers, as they count for themselves: they may serve several caches, and are told of without one's name. Tiers of the same name are added up.</summary>
internal static class TierReadings
{
    public static void Usage(HashSet<KvTier> tiers, Readings<long> to) => Amount(tiers, to, tier => tier.BytesInUse);

    public static void Limit(HashSet<KvTier> tiers, Readings<long> to) => Amount(tiers, to, tier => tier.BytesLimit);

    public static void Blocks(HashSet<KvTier> tiers, Readings<long> to)
    {
        foreach (KvTier tier in tiers)
        {
            KvTierCounts counts = tier.Counts;
            Add(to, tier, Tags.Event, "read", counts.Read);
            Add(to, tier, Tags.Event, "missed", counts.Missed);
            Add(to, tier, Tags.Event, "written", counts.Written);
        }
    }

    public static void Bytes(HashSet<KvTier> tiers, Readings<long> to)
    {
        foreach (KvTier tier in tiers)
        {
            KvTierCounts counts = tier.Counts;
            Add(to, tier, Tags.Direction, "read", counts.BytesRead);
            Add(to, tier, Tags.Direction, "write", counts.BytesWritten);
        }
    }

    public static void Errors(HashSet<KvTier> tiers, Readings<long> to)
    {
        foreach (KvTier tier in tiers)
        {
            to.Add(tier.Counts.Errors, Tags.Of(Tags.Tier, tier.Name));
        }
    }

    private static void Amount(HashSet<KvTier> tiers, Readings<long> to, Func<KvTier, long?> amount)
    {
        foreach (KvTier tier in tiers)
        {
            if (amount(tier) is { } bytes)
            {
                Add(to, tier, Tags.Kind, "blocks", bytes);
            }
        }
    }

    private static void Add(Readings<long> to, KvTier tier, string tag, string value, long amount) => to.Add(amount, Tags.Of(Tags.Tier, tier.Name), Tags.Of(tag, value));
}
