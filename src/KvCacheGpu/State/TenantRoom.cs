namespace KvCacheGpu;

/// <summary>What a tenant holds, and whether it may hold more. The caller is inside of the pool's gate.</summary>
internal static class TenantRoom
{
    /// <summary>Counts what a tenant's sequences hold, steps and loads under way included.</summary>
    public static KvTenantUsage UsageOf(CacheState cache, TenantAccount account)
    {
        (long bytes, long tokens) = (0, 0);
        for (int place = 0; place < cache.Places; place++)
        {
            if (cache.SequenceAt(place) is { } sequence && sequence.Account == account)
            {
                bytes += cache.Pool.BytesOf(sequence.Table.ListedPages()) + sequence.ComingBytes;
                tokens += sequence.Length + sequence.StepTokens;
            }
        }

        return new KvTenantUsage(account.Name, bytes, tokens, account.Sequences, account.Quota ?? KvTenantQuota.None);
    }

    /// <summary>Says what a tenant's quota lacks for so much more, or null if it has that.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="account">The tenant.</param>
    /// <param name="what">What it is for, for the message.</param>
    /// <param name="bytes">Bytes of pages.</param>
    /// <param name="tokens">Tokens.</param>
    /// <param name="areHeld">True if sequences count them already, as those that are being loaded do. The default value is false.</param>
    public static KvShortage? WhyNot(CacheState cache, TenantAccount account, string what, long bytes, long tokens, bool areHeld = false)
    {
        if (account.Quota is not { } quota)
        {
            return null;
        }

        KvTenantUsage usage = UsageOf(cache, account);
        long freeTokens = (quota.Tokens ?? long.MaxValue) - (usage.Tokens - (areHeld ? tokens : 0));
        long freeBytes = (quota.Bytes ?? long.MaxValue) - (usage.Bytes - (areHeld ? bytes : 0));
        return tokens > Math.Max(0, freeTokens) ? new KvShortage(what, KvResource.TenantTokens, tokens, freeTokens) { Tenant = account.Name }
            : bytes > Math.Max(0, freeBytes) ? new KvShortage(what, KvResource.TenantBytes, bytes, freeBytes) { Tenant = account.Name }
            : null;
    }

    /// <summary>Says which of the sequences' tenants lacks what its sequences have asked for together, or null if none does.</summary>
    public static KvShortage? WhyNotAsked(CacheState cache, ReadOnlySpan<SequenceState> sequences, string what)
    {
        KvShortage? shortage = null;
        foreach (SequenceState sequence in sequences)
        {
            TenantAccount account = sequence.Account;
            shortage ??= account.AskedTokens == 0 ? null : WhyNot(cache, account, what, account.AskedBytes, account.AskedTokens);
            account.AskNothing();
        }

        return shortage;
    }
}
