namespace KvCacheGpu;

/// <content>Looking up, and letting go of parts of what sequences stored.</content>
internal sealed unsafe partial class BlockIndex
{
    private readonly List<PrefixEvent>? _events;

    /// <summary>Finds the longest stored prefix of token ids. Changes nothing.</summary>
    /// <param name="root">Hash of the namespace.</param>
    /// <param name="ids">Token ids.</param>
    /// <param name="rows">Receives the rows, first block first: room for one per page that the ids touch.</param>
    /// <param name="partial">
    /// Whether a block may be hit in part: after the whole blocks, the stored block that shares the most first tokens with what is
    /// left, whole or itself a part of a page. Its holder copies it before writing on.
    /// </param>
    public BlockMatch Match(in BlockHash root, ReadOnlySpan<int> ids, Span<int> rows, bool partial = false)
    {
        BlockHash parent = root;
        int whole = 0;
        while (_sharing && ids.Length - (whole * PageTokens) >= PageTokens)
        {
            BlockHash hash = BlockHash.Next(parent, ids.Slice(whole * PageTokens, PageTokens));
            int row = _byHash.First(hash);
            if (row == 0)
            {
                break;
            }

            rows[whole++] = row;
            parent = hash;
        }

        int most = 0;
        ReadOnlySpan<int> rest = ids[(whole * PageTokens)..];
        for (int row = partial && !rest.IsEmpty ? _byParent.First(parent) : 0; row != 0; row = _byParent.After(row))
        {
            int common = rest.CommonPrefixLength(TokensOf(row));
            if (common > most)
            {
                (most, rows[whole]) = (common, row);
            }
        }

        return new BlockMatch(most > 0 ? whole + 1 : whole, (whole * PageTokens) + most, most);
    }

    /// <summary>The oldest row with a hash, or 0.</summary>
    public int Find(in BlockHash hash) => _byHash.First(hash);

    /// <summary>The token ids that a row's hash covers.</summary>
    public ReadOnlySpan<int> TokensOf(int row) => new(_tokens + ((long)row * PageTokens), _rows[row].Tokens);

    /// <summary>Forgets what is stored of a sequence beyond a length, as far as no one holds it.</summary>
    /// <param name="root">Hash of the namespace.</param>
    /// <param name="ids">Token ids of the sequence.</param>
    /// <param name="length">Tokens to keep; a block that goes on beyond them is forgotten.</param>
    public void TruncateBranch(in BlockHash root, ReadOnlySpan<int> ids, int length)
    {
        int[] rows = new int[(ids.Length / PageTokens) + 1];
        BlockMatch match = Match(root, ids, rows, partial: true);
        bool isOwnTail = match.PartialTokens > 0 && match.Tokens == ids.Length && _rows[rows[match.Rows - 1]].Tokens == match.PartialTokens;
        for (int i = (isOwnTail ? match.Rows : match.WholeRows) - 1; i >= length / PageTokens; i--)
        {
            if (_rows[rows[i]].References == 0 && (i * PageTokens) + _rows[rows[i]].Tokens > length)
            {
                Discard(rows[i]);
            }
        }
    }

    /// <summary>Releases the rows of a sequence that lie wholly before a sliding window, and puts the null row in their place.</summary>
    /// <param name="table">The sequence's rows.</param>
    /// <param name="computed">Tokens computed; the next one sees the last <paramref name="window"/> with itself.</param>
    /// <param name="window">Tokens of the window, at least 1.</param>
    public void ReleaseOutsideWindow(Span<int> table, int computed, int window)
    {
        Span<int> outside = table[..Math.Clamp((computed - window + 1) / PageTokens, 0, table.Length)];
        Release(outside);
        outside.Clear();
    }

    /// <summary>The events since the last call, oldest first.</summary>
    public PrefixEvent[] TakeEvents()
    {
        PrefixEvent[] events = [.. _events ?? []];
        _events?.Clear();
        return events;
    }
}
