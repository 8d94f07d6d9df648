namespace KvCacheGpu;

/// <summary>What a look-up found.</summary>
/// <param name="Rows">Rows written: whole blocks, then one that was hit in part, if any.</param>
/// <param name="Tokens">Tokens that they cover.</param>
/// <param name="PartialTokens">Tokens of the last row that were hit, fewer than it holds or than a page; 0 where whole blocks only were hit.</param>
internal readonly record struct BlockMatch(int Rows, int Tokens, int PartialTokens)
{
    /// <summary>Rows that were hit as a whole.</summary>
    public int WholeRows => PartialTokens > 0 ? Rows - 1 : Rows;
}
