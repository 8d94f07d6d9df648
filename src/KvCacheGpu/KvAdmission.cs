namespace KvCacheGpu;

/// <summary>
/// Answers before a sequence is begun, or goes on, if there is room for all its tokens; <see cref="KvSequence.CanAppend"/> answers for one step. For a
/// scheduler. Members allocate no managed memory. The time that they take grows with layers times KV heads and with <see cref="KvCacheOptions.MaxSequences"/>, not with tokens.
/// </summary>
/// <remarks>
/// <para>
/// Thread safety: members of a cache may be called from any thread; those of a sequence throw as its own members do. An answer reserves nothing: it holds
/// while no other sequence steps and none comes or goes. Requests that run grow on, so that a scheduler must be able to take one back all the same.
/// </para>
/// <para>
/// All of them take steps of <see cref="KvCacheOptions.MaxBatchTokens"/> tokens, the last one of what is left, and pages that are sealed on the way in the formats
/// of their layers; pages that no format can hold stay in full precision and take more. Steps that divide these further, as one token at a time, take no more.
/// Pages that only the prefix index keeps count as free, the slots that steps leave free for demotions do not.
/// </para>
/// <para>
/// Without a policy, true means that these steps succeed, and those that divide them; false means that one of these fails. Where sealed and open pages have different
/// sizes, a slab that open pages have left in part counts as full of them: the steps may then come through in spite of a false, by less than one
/// step's open pages. With a policy, true takes into account what the policy may drop now, as <see cref="KvSequence.CanAppend"/> does; it may choose
/// less, and false does not say that the steps fail, since tokens that are yet to come can be dropped on the way.
/// </para>
/// </remarks>
public static class KvAdmission
{
    private const string What = "growth by tokens";

    extension(KvCache cache)
    {
        /// <summary>
        /// The most tokens that one more sequence could hold now without a policy's help. It counts pages, and tables that grow with them; it does not look at places of
        /// sequences, quotas of tenants, <see cref="KvCacheOptions.MaxTokens"/> or <see cref="KvCacheOptions.MaxSequenceTokens"/>. The sequences that live could share
        /// about as many among them; each may lose up to a page, since its last page is not full.
        /// </summary>
        /// <exception cref="ObjectDisposedException">The cache was disposed.</exception>
        public int FreeTokens
        {
            get
            {
                cache.State.Unsettled.SettleDone();
                using (cache.State.EnterLive())
                {
                    return new Growth(cache.State).Most();
                }
            }
        }
    }

    /// <summary>Returns true if a new sequence can be made and grow to so many tokens.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="tokens">Tokens, 0 or more.</param>
    /// <param name="tenant">The new sequence's tenant, whose quota holds. The default value is null: it has none.</param>
    /// <exception cref="ArgumentOutOfRangeException">Below 0 tokens.</exception>
    /// <exception cref="ObjectDisposedException">The cache was disposed.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCache.CanHold']/*"/>
    public static bool CanHold(this KvCache cache, int tokens, string? tenant = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);

        // Steps that wait for their outcome hold pages twice, working memory, and sequences that were forgotten.
        return CouldHold(cache, tokens, tenant) || (cache.State.Unsettled.SettleAll() && CouldHold(cache, tokens, tenant));
    }

    private static bool CouldHold(KvCache cache, int tokens, string? tenant)
    {
        CacheState state = cache.State;
        KvShortage? quota = null;
        KvShortage? room;
        using (state.EnterLive())
        {
            if (tokens > state.MaxSequenceTokens || state.FreePlace() < 0)
            {
                return false;
            }

            var growth = new Growth(state);
            quota = state.Tenants.Find(tenant) is { } account ? growth.WhyNot(What, account, tokens) : null;
            room = growth.WhyNot(What, tokens, state.SequenceSize.Fixed);
        }

        return CouldMakeWay(cache, [], quota) && CouldMakeWay(cache, [], room);
    }

    /// <summary>Returns true if the sequence can grow by so many tokens.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="moreTokens">Tokens, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">Below 0 tokens.</exception>
    /// <exception cref="KvConcurrencyException">E006: a step is under way, or another thread is inside.</exception>
    public static bool CanHold(this KvSequence sequence, int moreTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(moreTokens);
        SequenceState own = sequence.State;
        using SequenceGate.Call call = sequence.Enter();
        return CouldHold(sequence.Cache, own, moreTokens) || (sequence.Cache.State.Unsettled.SettleAll() && CouldHold(sequence.Cache, own, moreTokens));
    }

    private static bool CouldHold(KvCache cache, SequenceState own, int moreTokens)
    {
        CacheState state = cache.State;
        if (moreTokens > state.MaxSequenceTokens - own.Length)
        {
            return false;
        }

        KvShortage? quota;
        KvShortage? room;
        using (state.Pool.Gate.Enter())
        {
            using var shared = new Pooled<int>(Growth.OpenPages(state, own));
            var growth = new Growth(state, own, shared.Span);
            quota = growth.WhyNot(What, own.Account, moreTokens);
            room = growth.WhyNot(What, moreTokens, 0);
        }

        return CouldMakeWay(cache, [own], quota) && CouldMakeWay(cache, [own], room);
    }

    private static bool CouldMakeWay(KvCache cache, ReadOnlySpan<SequenceState> sequences, KvShortage? shortage) =>
        shortage is not { } lack || cache.Pressure?.CouldMakeWay(sequences, lack) == true;
}
