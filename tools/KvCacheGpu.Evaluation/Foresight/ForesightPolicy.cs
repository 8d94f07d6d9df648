namespace KvCacheGpu.Evaluation;

/// <summary>
/// Drops what receives the least of the attention to come, whichever layer and head it is of: the bound that policies which drop are measured by.
/// It fixes no sinks and no window but the newest token, as it knows what they are worth.
/// </summary>
/// <remarks>
/// Masses are compared as they are: each row's queries give 1 each. Taken as parts of what a row still holds, as Ada-KV does, a row whose
/// queries look at open pages would weigh as much as one that looks far back: 90 % of facts instead of 97 % at a quarter of the bytes.
/// </remarks>
internal sealed class ForesightPolicy : KvPolicy
{
    private readonly OraclePolicy _scorer;

    /// <summary>Makes the bound.</summary>
    /// <param name="future">Knows what comes.</param>
    public ForesightPolicy(KvFutureMass future)
    {
        _scorer = new OraclePolicy(future);
        (SinkTokens, WindowTokens) = (0, 1);
    }

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        plan[..pages.Count].Clear();
        float[] scores = new float[pages.Count];
        int[] order = [.. Enumerable.Range(0, pages.Count)];
        _scorer.Score(pages, scores);
        Array.Sort(scores, order);
        for (int i = 0; i < order.Length && bytesToFree > 0; i++)
        {
            if (pages.IsVictim(order[i]))
            {
                plan[order[i]] = KvTransition.Drop;
                bytesToFree -= pages.Bytes[order[i]];
            }
        }
    }
}
