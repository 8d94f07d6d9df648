using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>
/// The bytes of one sequence's pages and tables in the formats of a configuration. Asks the layouts, which are what pages are really cut by;
/// the working memory of steps and bookkeeping come on top.
/// </summary>
internal sealed class ContextPlan
{
    private readonly KvGeometry _geometry;
    private readonly KvLayouts _layouts;

    /// <summary>Lays out the pages of all layers in one pair of formats, but for what the edges are held in.</summary>
    /// <exception cref="KvConfigurationException">A format does not take the geometry's width, or they are no pair.</exception>
    public ContextPlan(KvGeometry geometry, PageFormat key, PageFormat value)
        : this(geometry, new KvCacheOptions { KeyFormat = key, ValueFormat = value })
    {
    }

    /// <summary>Lays out the pages.</summary>
    /// <exception cref="KvConfigurationException">E003: a setting does not fit the geometry.</exception>
    public ContextPlan(KvGeometry geometry, KvCacheOptions config)
    {
        (_geometry, _layouts) = (geometry, KvCache.LayoutsFor(geometry, config));
        Formats = new KvFormats(config.KeyFormat, config.ValueFormat);
        SealedPageBytes = new PageLayout(geometry, config.KeyFormat, config.ValueFormat).Bytes;
    }

    /// <summary>Formats of the layers for which nothing else is said.</summary>
    public KvFormats Formats { get; }

    /// <summary>Bytes of one sealed page in these.</summary>
    public int SealedPageBytes { get; }

    /// <summary>By layer: sealed pages.</summary>
    public IReadOnlyList<PageLayout> Layers => _layouts.Sealed;

    /// <summary>Bytes that one more token takes over all layers and heads, in the long run.</summary>
    public double BytesPerToken => PerToken(page => page.Bytes);

    /// <summary>Bytes of elements in these.</summary>
    public double ElementBytesPerToken => PerToken(page => (page.KeyWords + page.ValueWords) * page.PageTokens * sizeof(int));

    /// <summary>Bytes of scales.</summary>
    public double ScaleBytesPerToken => PerToken(page => (page.KeyScalePlanes + page.ValueScalePlanes) * page.ScaleStride * 2);

    /// <summary>Bytes of the pages' means.</summary>
    public double MeanBytesPerToken => PerToken(page => page.HasDigest ? page.DigestStride * 2 : 0);

    /// <summary>Bytes of the pages' deviations, which make the digest with the means.</summary>
    public double DeviationBytesPerToken => MeanBytesPerToken;

    /// <summary>Bytes between pages.</summary>
    public double PaddingBytesPerToken =>
        BytesPerToken - ElementBytesPerToken - ScaleBytesPerToken - MeanBytesPerToken - DeviationBytesPerToken;

    private long Rows => (long)_geometry.Layers * _geometry.KvHeads;

    private long SealedBytes => Layers.Sum(page => (long)page.Bytes) * _geometry.KvHeads;

    /// <summary>Bytes of the pages of <paramref name="tokens"/> tokens: sealed ones, and the open ones at the end.</summary>
    public long PageBytes(long tokens)
    {
        // Page i is sealed once the page after it is full: (i + 2) * P <= tokens.
        long pages = (tokens + _geometry.PageTokens - 1) / _geometry.PageTokens;
        long sealedPages = Math.Max(0, (tokens / _geometry.PageTokens) - 1);
        return checked((sealedPages * SealedBytes) + (Rows * (pages - sealedPages) * _layouts.Open.Bytes));
    }

    /// <summary>Bytes of the page tables of one sequence.</summary>
    /// <exception cref="OverflowException">More entries than tables can hold.</exception>
    public long TableBytes(long tokens)
    {
        int capacity = checked((int)((tokens + _geometry.PageTokens - 1) / _geometry.PageTokens));
        return new TableMap(new KernelShape(_geometry, _layouts.Open, Layers[0], rotationSeed: 0, sequences: 1, capacity)).Bytes;
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
        return checked(((pages - openPages) * SealedBytes) + (Rows * openPages * _layouts.Open.Bytes)) + TableBytes(tokens);
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

    // Words of a table row's entry: slot, tag, scores, and two numbers per query head; all tables lie within 2^31 words.
    private long MostTokens()
    {
        long words = (Rows * (1 + _geometry.GroupSize)) + PageLayout.UnitWords;
        long pages = (int.MaxValue - words) / (Rows * (2 + TableMap.ScoreWords + (2L * _geometry.GroupSize)));
        return Math.Min(pages, TableMap.MaxPageIndex) * _geometry.PageTokens;
    }

    private double PerToken(Func<PageLayout, long> bytes) => (double)Layers.Sum(bytes) * _geometry.KvHeads / _geometry.PageTokens;
}
