namespace KvCacheGpu;

/// <summary>
/// Sequences whose handles were collected without having been disposed. A finalizer only notes them; the next call that makes a sequence or takes
/// room gives them back, on its own thread and without waiting.
/// </summary>
internal static class ForgottenSequences
{
    /// <summary>Gives back what forgotten sequences hold, and tells the host of each. The caller holds no gate but those of sequences and of its step.</summary>
    public static void Reclaim(CacheState cache)
    {
        SequenceState? next = cache.TakeForgotten();
        try
        {
            while (next is { } sequence)
            {
                next = sequence.NextForgotten;
                Reclaim(cache, sequence);
            }
        }
        finally
        {
            // The host's callback threw: the others wait for the next call.
            while (next is { } sequence)
            {
                next = sequence.NextForgotten;
                cache.PutBackForgotten(sequence);
            }
        }
    }

    private static void Reclaim(CacheState cache, SequenceState sequence)
    {
        // Its step may be under way still, held by a host that has only the step; or a snapshot is inside. Later, then.
        if (sequence.Gate.TryEnterDisposal() is not { } isMine)
        {
            cache.PutBackForgotten(sequence);
            return;
        }

        if (isMine)
        {
            int length = sequence.Length;
            SequenceLife.GiveBack(cache, sequence);
            cache.Options.OnForgottenSequence?.Invoke(new KvForgottenSequence(sequence.Name, sequence.Options.Tenant, length));
        }
    }
}
