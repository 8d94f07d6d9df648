namespace KvCacheGpu;

/// <summary>When the pages of a sequence are sealed: once a page is full and so many tokens follow it that a rollback does not reach it.</summary>
/// <param name="PageTokens">Tokens of a page.</param>
/// <param name="RollbackTokens">Tokens at the end that can be taken off exactly: <see cref="KvCacheOptions.ExactRollbackTokens"/>.</param>
internal readonly record struct SealRule(int PageTokens, int RollbackTokens)
{
    /// <summary>The most pages of a row that are open between steps, and in a step of one token.</summary>
    public int MostOpen => ((RollbackTokens + PageTokens - 1) / PageTokens) + 1;

    /// <summary>The first page that a sequence of some length has open; all before it are sealed.</summary>
    public int FirstOpen(int length) => Math.Max(0, length - RollbackTokens) / PageTokens;

    /// <summary>The first page that a policy may not drop: pages before it are sealed, and a whole page follows each.</summary>
    public int FirstUndroppable(int length) => Math.Min(FirstOpen(length), Math.Max(0, (length / PageTokens) - 1));

    /// <summary>
    /// The most pages of a row that a step of so many tokens over so many sequences has open at once. A sequence needs one more than <see cref="MostOpen"/> only
    /// where its tokens in the step reach beyond the page that they begin in.
    /// </summary>
    public long MostOpenInStep(long sequences, long tokens)
    {
        // The fewest tokens of a step with which a sequence may need one more.
        long fewest = ((long)(MostOpen - 1) * PageTokens) - RollbackTokens + 2;
        return (sequences * MostOpen) + Math.Min(sequences, tokens / fewest) + (tokens / PageTokens);
    }
}
