namespace KvCacheGpu;

/// <summary>Begins sequences with the pages of a prefix that the cache keeps.</summary>
internal sealed class SequencePrefix(CacheState cache, SequenceLife life, CacheTiers? tiers)
{
    private const string Reusing = "reuse of a prefix";

    /// <summary>Begins an empty sequence with the resident pages of the longest prefix of token ids. The sequence is the caller's.</summary>
    /// <returns>Tokens that it has now; 0 also if its tables find no room.</returns>
    public int Reuse(SequenceState sequence, ReadOnlySpan<int> ids)
    {
        try
        {
            return ReuseBound(sequence, ids);
        }
        finally
        {
            if (sequence.Length == 0)
            {
                cache.Scaling?.Unbind(sequence);
            }
        }
    }

    private int ReuseBound(SequenceState sequence, ReadOnlySpan<int> ids)
    {
        // What steps have computed that are done can be found from here on.
        cache.Unsettled.SettleDone();
        PrefixChain chain = sequence.Chain!;
        if (cache.Scaling is { SealsScaled: true, Current: not null } scaling)
        {
            scaling.BindKnown([sequence]);
        }

        tiers?.Fetch(chain.Root, ids, sequence.Options.Tenant);
        using var blocks = new Pooled<int>(sequence.Table.PagesFor(ids.Length));
        int tokens;
        using (cache.Pool.Gate.Enter())
        {
            BlockMatch match = chain.Hold(ids, blocks.Span);
            KvShortage? shortage = TenantRoom.WhyNot(cache, sequence.Account, Reusing, BytesOf(match), match.Tokens);
            bool hasRoom = false;
            try
            {
                hasRoom = shortage is null && life.MakeRoom(sequence, match.Tokens, Reusing) is null && BindFound(sequence, match);
            }
            finally
            {
                cache.Counts.CountLookup(hasRoom ? match.Tokens : 0, hasRoom || match.Tokens == 0);
                if (!hasRoom)
                {
                    chain.Release(blocks.Span[..match.Blocks]);
                }
            }

            if (!hasRoom)
            {
                return shortage is { } lack ? throw cache.Counts.Refuse(lack with { Sequence = sequence.Id }) : 0;
            }

            chain.List(match, blocks.Span, sequence.Table);
            tokens = match.Tokens;
        }

        // The ids' places follow the length that it had.
        sequence.SetTokenIds(ids[..tokens]);
        if (cache.Needs.HaveScores())
        {
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.ClearScores(sequence.Table.Sequence);
            }
        }

        sequence.Attended.Clear();
        return tokens;
    }

    // What is found before key scales are learned was sealed under scales of 1.
    private bool BindFound(SequenceState sequence, in BlockMatch match) =>
        match.Tokens == 0 || sequence.Table.KeyTable >= 0 || cache.Scaling is not { SealsScaled: true } scaling || scaling.TryBind(sequence, null, out _);

    // Of the pages of blocks that were found: they are as their layers seal them.
    private long BytesOf(in BlockMatch match)
    {
        SlotCounts pages = default;
        for (int layer = 0; layer < cache.Geometry.Layers; layer++)
        {
            pages[cache.Classes.SealedIn(layer)] += match.Blocks * cache.Geometry.KvHeads;
        }

        return cache.Pool.BytesOf(pages);
    }
}
