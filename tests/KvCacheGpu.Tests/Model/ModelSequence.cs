namespace KvCacheGpu.Tests;

/// <summary>What a sequence should hold, as plain lists.</summary>
internal sealed class ModelSequence(KvSequence sequence, IEnumerable<int> tokens, IEnumerable<int> pages)
{
    public KvSequence Sequence { get; } = sequence;

    public List<int> Tokens { get; } = [.. tokens];

    /// <summary>Page indices that should be resident, ascending.</summary>
    public List<int> Pages { get; } = [.. pages];

    /// <summary>The longest length since the last cut that reached behind the lag: cuts of up to a page below it are exact.</summary>
    public int SealedPages { get; set; }

    public ModelSequence ForkAs(KvSequence fork) => new(fork, Tokens, Pages) { SealedPages = SealedPages };

    public void Append(ReadOnlySpan<int> ids, int pageTokens, WindowPolicy? policy)
    {
        if (Tokens.Count % pageTokens != 0)
        {
            SealedPages = Math.Min(SealedPages, Tokens.Count / pageTokens);
        }

        foreach (int id in ids)
        {
            if (Tokens.Count % pageTokens == 0)
            {
                Pages.Add(Tokens.Count / pageTokens);
            }

            Tokens.Add(id);
        }

        SealedPages = Math.Max(SealedPages, (Tokens.Count / pageTokens) - 1);
        if (policy is not null)
        {
            Pages.RemoveAll(page => page * pageTokens >= policy.SinkTokens
                && (page + 2) * pageTokens <= Tokens.Count - policy.WindowTokens);
        }
    }

    public KvTruncation Cut(int length, int pageTokens, int rows, bool reencodes)
    {
        int tail = length / pageTokens;
        if (length % pageTokens != 0 && !Pages.Contains(tail))
        {
            length = tail * pageTokens;
        }

        bool insideSealed = length < Tokens.Count && length % pageTokens != 0 && length / pageTokens < SealedPages;
        Tokens.RemoveRange(length, Tokens.Count - length);
        Pages.RemoveAll(page => page * pageTokens >= length);
        SealedPages = Math.Min(SealedPages, (length + pageTokens - 1) / pageTokens);
        return new KvTruncation(length, insideSealed && reencodes ? rows : 0);
    }

    /// <summary>Ids of the tokens that should be resident.</summary>
    public int[] ResidentIds(int pageTokens) =>
        [.. Pages.SelectMany(page => Tokens.Skip(page * pageTokens).Take(pageTokens))];
}
