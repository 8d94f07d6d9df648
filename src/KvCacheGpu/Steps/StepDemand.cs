using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Says whether a step could be taken: its arguments, and the room for its pages.</summary>
internal static class StepDemand
{
    /// <summary>Says what a step would lack, or null if it fits. The caller is inside of the pool's gate, and the sequences are its own.</summary>
    public static KvShortage? WhyNot(CacheState cache, ReadOnlySpan<SequenceState> sequences, ReadOnlySpan<int> tokensPerSequence, out Want need)
    {
        need = default;
        for (int i = 0; i < sequences.Length; i++)
        {
            int free = cache.MaxSequenceTokens - sequences[i].Length;
            if (tokensPerSequence[i] > free)
            {
                return new KvShortage("a step", KvResource.SequenceTokens, tokensPerSequence[i], free) { Sequence = sequences[i].Id };
            }
        }

        bool hasQuotas = cache.Tenants.HasQuotas;
        for (int i = 0; i < sequences.Length; i++)
        {
            Want own = StepPages.NeedFor(cache, sequences[i].Table, tokensPerSequence[i]);
            need += own;
            if (hasQuotas)
            {
                sequences[i].Account.Ask(ListedBytes(cache, own.Slots), tokensPerSequence[i]);
            }
        }

        KvShortage? shortage = (hasQuotas ? TenantRoom.WhyNotAsked(cache, sequences, "a step") : null) ?? cache.Room.WhyNotStep(need);
        return shortage is { } lack && sequences.Length == 1 ? lack with { Sequence = sequences[0].Id } : shortage;
    }

    /// <summary>True if a step could begin, with what the policy may drop counted. The sequences are the caller's.</summary>
    public static bool CouldOpen(CacheState cache, Pressure? pressure, ReadOnlySpan<SequenceState> sequences, ReadOnlySpan<int> tokensPerSequence)
    {
        ForgottenSequences.Reclaim(cache);
        long sum = 0;
        foreach (int tokens in tokensPerSequence)
        {
            if (tokens < 1)
            {
                return false;
            }

            sum += tokens;
        }

        KvShortage? shortage;
        using (cache.Pool.Gate.Enter())
        {
            shortage = WhyNot(cache, sequences, tokensPerSequence, out _);
        }

        return sum <= cache.Options.MaxBatchTokens && (shortage is not { } lack || pressure?.CouldMakeWay(sequences, lack) == true);
    }

    /// <exception cref="ArgumentException">The counts do not fit the sequences.</exception>
    public static void ThrowIfNotOneEach(int tokensPerSequence, int sequences)
    {
        if (tokensPerSequence != sequences)
        {
            throw new ArgumentException($"expected one token count for each of {sequences} sequences, got {tokensPerSequence}", nameof(tokensPerSequence));
        }
    }

    /// <exception cref="ArgumentException">The counts do not fit the sequences or the ids, or are too many for one step.</exception>
    public static void ThrowIfMalformed(KvCacheOptions options, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, int sequences)
    {
        ThrowIfNotOneEach(tokensPerSequence.Length, sequences);
        long sum = 0;
        foreach (int tokens in tokensPerSequence)
        {
            if (tokens < 1)
            {
                throw new ArgumentException($"expected at least 1 token for each sequence, got {tokens}", nameof(tokensPerSequence));
            }

            sum += tokens;
        }

        if (sum != tokenIds.Length)
        {
            throw new ArgumentException($"expected {sum} token ids, as the sequences' counts add up to, got {tokenIds.Length}", nameof(tokenIds));
        }

        if (sum > options.MaxBatchTokens)
        {
            throw new ArgumentException($"expected at most {options.MaxBatchTokens} tokens in one step (MaxBatchTokens), got {sum}", nameof(tokenIds));
        }
    }

    // A sequence lists a step's open pages from its begin on; those that are sealed are listed in the place of open ones.
    private static long ListedBytes(CacheState cache, in SlotCounts need) => cache.Pool.BytesOf(SlotCounts.Of(KernelShape.Open, need[KernelShape.Open]));
}
