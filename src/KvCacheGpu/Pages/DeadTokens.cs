namespace KvCacheGpu;

/// <summary>
/// Which tokens of a sequence's rows are gone: a live mask of P bits per page, inverted so that all begin alive. Kernels never see it: a page lists
/// live tokens alone, and keys carry their own positions; the mask tells which positions those of a merged page are.
/// </summary>
/// <remarks>
/// <code>
/// bits[pages][rows][P], each page's padded to 32; 1: gone. A page's entry holds, in order, the live tokens of its own page index and of all
/// before it back to the entry before. Of a page that was never merged those are its own, all of them.
/// </code>
/// </remarks>
internal sealed unsafe class DeadTokens : IDisposable
{
    private const int WordBits = 32;

    private readonly NativeInts _words;
    private readonly int _pageTokens;
    private readonly int _wordsPerPage;
    private readonly int _rows;
    private int _pages;

    public DeadTokens(KvGeometry geometry, MemoryLedger ledger)
    {
        _words = new NativeInts(0, ledger);
        (_pageTokens, _rows, _wordsPerPage) = (geometry.PageTokens, geometry.Layers * geometry.KvHeads, WordsPerPage(geometry));
    }

    /// <summary>Words of a row's mask.</summary>
    public int WordsPerRow => _pages * _wordsPerPage;

    /// <summary>Bytes for each page that rows may list.</summary>
    public static long BytesOfPage(KvGeometry geometry) => (long)geometry.Layers * geometry.KvHeads * WordsPerPage(geometry) * sizeof(int);

    /// <summary>Makes room for so many pages of each row; tokens of pages that were not there are alive.</summary>
    public void Resize(int pages)
    {
        _words.Resize((long)pages * _rows * _wordsPerPage);
        _pages = pages;
    }

    /// <summary>True if any token of a page is gone.</summary>
    public bool Any(int row, int page) => Page(row, page).ContainsAnyExcept(0);

    /// <summary>True if two rows lost the same tokens.</summary>
    public bool Same(int row, int other)
    {
        for (int page = 0; page < _pages; page++)
        {
            if (!Page(row, page).SequenceEqual(Page(other, page)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Says that all tokens of some pages are gone.</summary>
    public void Kill(int row, int firstPage, int lastPage)
    {
        for (int page = firstPage; page <= lastPage; page++)
        {
            Page(row, page).Fill(-1);
        }
    }

    /// <summary>Says that tokens are there after all: those whose bits are set.</summary>
    /// <param name="row">Row.</param>
    /// <param name="live">[words of a row] bits as <see cref="Set"/> places them.</param>
    public void Revive(int row, ReadOnlySpan<int> live)
    {
        for (int i = 0; i < live.Length; i++)
        {
            Page(row, i / _wordsPerPage)[i % _wordsPerPage] &= ~live[i];
        }
    }

    /// <summary>Sets a position's bit in a row's words.</summary>
    public void Set(Span<int> words, int position)
    {
        (int page, int token) = Math.DivRem(position, _pageTokens);
        words[(page * _wordsPerPage) + (token / WordBits)] |= 1 << (token % WordBits);
    }

    /// <summary>Forgets what is beyond a length: new tokens come there.</summary>
    public void CutTo(int row, int length)
    {
        (int page, int token) = Math.DivRem(length, _pageTokens);
        if (page < _pages)
        {
            Span<int> words = Page(row, page)[(token / WordBits)..];
            words[0] &= (1 << (token % WordBits)) - 1;
            words[1..].Clear();
        }

        while (++page < _pages)
        {
            Page(row, page).Clear();
        }
    }

    /// <summary>Writes the positions of the live tokens of some pages.</summary>
    /// <returns>How many.</returns>
    public int LivePositions(int row, int firstPage, int lastPage, Span<int> positions)
    {
        int count = 0;
        for (int page = firstPage; page <= lastPage; page++)
        {
            ReadOnlySpan<int> words = Page(row, page);
            for (int token = 0; token < _pageTokens; token++)
            {
                if ((words[token / WordBits] >> (token % WordBits) & 1) == 0)
                {
                    positions[count++] = (page * _pageTokens) + token;
                }
            }
        }

        return count;
    }

    public void CopyFrom(DeadTokens other) => other._words.Span.CopyTo(_words.Span);

    public void Dispose() => _words.Dispose();

    private static int WordsPerPage(KvGeometry geometry) => (geometry.PageTokens + WordBits - 1) / WordBits;

    private Span<int> Page(int row, int page)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)page, (uint)_pages, nameof(page));
        return new Span<int>(_words.Pointer + ((((long)page * _rows) + row) * _wordsPerPage), _wordsPerPage);
    }
}
