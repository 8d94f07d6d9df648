namespace KvCacheGpu;

/// <summary>Says whether a step could be taken: its arguments, and the room for its pages.</summary>
internal static class StepDemand
{
    /// <summary>Says what a step would lack, or null if it fits. The caller is inside of the pool's gate, and the sequences are its own.</summary>
    public static Refusal? WhyNot(CacheState cache, ReadOnlySpan<SequenceState> sequences, ReadOnlySpan<int> tokensPerSequence, out SlotCounts need)
    {
        need = default;
        for (int i = 0; i < sequences.Length; i++)
        {
            PageTable table = sequences[i].Table;
            long length = (long)table.Length + tokensPerSequence[i];
            if (length > cache.Options.MaxTokens)
            {
                return new Refusal("sequence", cache.Options.MaxTokens, length, "tokens");
            }

            need += StepPages.NeedFor(cache, table, tokensPerSequence[i]);
        }

        return cache.Room.WhyNotStep(need);
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

        Refusal? refusal;
        using (cache.Pool.Gate.Enter())
        {
            refusal = WhyNot(cache, sequences, tokensPerSequence, out _);
        }

        return sum <= cache.Options.MaxBatchTokens && (refusal is not { } why || pressure?.CouldMakeWay(sequences, why) == true);
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
            throw new ArgumentException($"expected at most {options.MaxBatchTokens} tokens in one step, got {sum}", nameof(tokenIds));
        }
    }
}
