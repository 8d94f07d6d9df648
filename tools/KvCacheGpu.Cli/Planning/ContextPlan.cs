using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>
/// The bytes of one sequence's pages and tables in one pair of formats. Asks the layouts, which are what pages are really cut by;
/// the working memory of steps and bookkeeping come on top.
/// </summary>
internal sealed class ContextPlan
{
    private readonly KvGeometry _geometry;
    private readonly PageLayout _open;
    private readonly PageLayout _sealed;

    /// <summary>Lays out the pages.</summary>
    /// <exception cref="ArgumentException">A format does not take the geometry's width.</exception>
    public ContextPlan(KvGeometry geometry, PageFormat key, PageFormat value)
    {
        _geometry = geometry;
        _sealed = new PageLayout(geometry, key, value);
        _open = new PageLayout(geometry, Open(key), Open(value));
    }

    /// <summary>Format of the keys.</summary>
    public PageFormat KeyFormat => _sealed.KeyFormat;

    /// <summary>Format of the values.</summary>
    public PageFormat ValueFormat => _sealed.ValueFormat;

    /// <summary>Bytes of one sealed page.</summary>
    public int SealedPageBytes => _sealed.Bytes;

    /// <summary>Bytes that one more token takes over all layers and heads, in the long run.</summary>
    public double BytesPerToken => (double)_sealed.Bytes * Rows / _geometry.PageTokens;

    private long Rows => (long)_geometry.Layers * _geometry.KvHeads;

    /// <summary>Bytes of the pages of <paramref name="tokens"/> tokens: sealed ones, and the open ones at the end.</summary>
    public long PageBytes(long tokens)
    {
        // Page i is sealed once the page after it is full: (i + 2) * P <= tokens.
        long pages = (tokens + _geometry.PageTokens - 1) / _geometry.PageTokens;
        long sealedPages = Math.Max(0, (tokens / _geometry.PageTokens) - 1);
        return checked(Rows * ((sealedPages * _sealed.Bytes) + ((pages - sealedPages) * _open.Bytes)));
    }

    /// <summary>Bytes of the page tables of one sequence.</summary>
    /// <exception cref="OverflowException">More entries than tables can hold.</exception>
    public long TableBytes(long tokens)
    {
        int capacity = checked((int)((tokens + _geometry.PageTokens - 1) / _geometry.PageTokens));
        return new TableMap(new KernelShape(_geometry, _open, _sealed, rotationSeed: 0, sequences: 1, capacity)).Bytes;
    }

    /// <summary>Both.</summary>
    public long Bytes(long tokens) => PageBytes(tokens) + TableBytes(tokens);

    /// <summary>
    /// The most that both take on the way to <paramref name="tokens"/>, one by one: until a page is full, it and the one before it are open.
    /// </summary>
    public long PeakBytes(long tokens)
    {
        long pages = (tokens + _geometry.PageTokens - 1) / _geometry.PageTokens;
        long openPages = Math.Min(pages, 2);
        return checked(Rows * (((pages - openPages) * _sealed.Bytes) + (openPages * _open.Bytes))) + TableBytes(tokens);
    }

    /// <summary>The most tokens that a sequence can grow to within <paramref name="budget"/>, up to what tables can list.</summary>
    public long TokensIn(long budget)
    {
        long fits = 0;
        long beyond = MostTokens() + 1;
        while (beyond - fits > 1)
        {
            long middle = fits + ((beyond - fits) / 2);
            (fits, beyond) = PeakBytes(middle) <= budget ? (middle, beyond) : (fits, middle);
        }

        return fits;
    }

    // Words of a table row's entry: slot, tag, and two numbers per query head; all tables lie within 2^31 words.
    private long MostTokens()
    {
        long words = (Rows * (1 + _geometry.GroupSize)) + PageLayout.UnitWords;
        long pages = (int.MaxValue - words) / (Rows * (2 + (2L * _geometry.GroupSize)));
        return Math.Min(pages, TableMap.MaxPageIndex) * _geometry.PageTokens;
    }

    private static PageFormat Open(PageFormat format) => format.IsFullPrecision() ? format : PageFormat.F16;
}
