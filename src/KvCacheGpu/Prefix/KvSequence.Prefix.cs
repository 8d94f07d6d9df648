namespace KvCacheGpu;

/// <content>Beginning with what another sequence computed.</content>
public sealed partial class KvSequence
{
    private readonly PrefixChain? _chain;

    /// <summary>Whose the sequence is; forks inherit it.</summary>
    public KvSequenceOptions Options { get; }

    /// <summary>
    /// Begins an empty sequence with the resident pages of the longest prefix that a sequence of the same tenant, adapter and salt computed.
    /// The tokens are in the sequence as if they had been appended; what is left of the prompt is the caller's to append.
    /// </summary>
    /// <param name="promptIds">
    /// Token ids of the prompt. The last one is never reused, so that there is one to compute; nor is anything from the first negative one on, which
    /// names no token.
    /// </param>
    /// <returns>
    /// Tokens now in the sequence: whole pages, and on sealed formats in full precision also the first tokens of the page that
    /// continues like the prompt the longest. 0 without <see cref="KvCacheOptions.PrefixReuse"/>.
    /// </returns>
    /// <remarks>
    /// Pages are shared by reference; one that is reused in part is copied by the step that writes on in it. Sealed pages can be reused, those
    /// that a committed sequence is a page beyond. Reused tokens count as sealed: rolling back into them re-encodes compressed pages.
    /// </remarks>
    /// <exception cref="KvStepOrderException">E010: the sequence is not empty.</exception>
    public int Reuse(ReadOnlySpan<int> promptIds)
    {
        using Call call = new(this);
        if (Table.Length > 0)
        {
            throw new KvStepOrderException("Reuse", "an empty sequence", $"{Table.Length} tokens");
        }

        int unknown = promptIds.IndexOfAnyInRange(int.MinValue, -1);
        promptIds = unknown < 0 ? promptIds : promptIds[..(unknown + 1)];
        int most = Math.Min(promptIds.Length - 1, Cache.Settings.MaxTokens);
        if (_chain is null || most <= 0)
        {
            return 0;
        }

        int tokens;
        lock (Cache.Pool.Gate)
        {
            tokens = _chain.Reuse(promptIds[..most], Table);
            promptIds[..tokens].CopyTo(_tokens);
        }

        if (Scores is not null)
        {
            lock (Cache.DeviceGate)
            {
                Cache.Tier.ClearScores(Table.Sequence);
            }
        }

        _attended.Clear();
        return tokens;
    }

    /// <summary>Makes the blocks that a commit has sealed hittable. The gate is held.</summary>
    internal void PublishBlocks() => _chain?.Publish(_tokens.AsSpan(0, Table.Length), Table);
}
