namespace KvCacheGpu;

/// <summary>
/// Decides which pages a sequence drops. Pure: the same row always gives the same answer; knows no device, changes nothing.
/// Asked after each committed step, for each (layer, KV head).
/// </summary>
public abstract class KvPolicy
{
    /// <summary>Marks the pages to drop.</summary>
    /// <param name="row">The pages of one layer and KV head that may be dropped: sealed, with a page of lag behind the newest token.</param>
    /// <param name="drops">One flag per page of the row, all false at first; true drops the page.</param>
    public abstract void Plan(in KvRow row, Span<bool> drops);

    /// <summary>
    /// Pages of one row that stay, at most, whatever the sequence's length: what a budget must hold. Open pages and those of
    /// the step under way come on top.
    /// </summary>
    /// <param name="pageTokens">Tokens in a page.</param>
    public abstract int MostKeptPages(int pageTokens);
}

/// <summary>What a policy sees of one (layer, KV head).</summary>
public readonly ref struct KvRow
{
    /// <summary>Describes a row.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="length">Tokens of the sequence, dropped ones counted.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    /// <param name="pages">Page indices (first position / page tokens), ascending.</param>
    public KvRow(int layer, int head, int length, int pageTokens, ReadOnlySpan<int> pages)
    {
        (Layer, Head, Length, PageTokens) = (layer, head, length, pageTokens);
        Pages = pages;
    }

    /// <summary>Layer.</summary>
    public int Layer { get; }

    /// <summary>KV head, counted from the first held here.</summary>
    public int Head { get; }

    /// <summary>Tokens of the sequence, dropped ones counted.</summary>
    public int Length { get; }

    /// <summary>Tokens in a page.</summary>
    public int PageTokens { get; }

    /// <summary>Page indices (first position / page tokens), ascending.</summary>
    public ReadOnlySpan<int> Pages { get; }
}
