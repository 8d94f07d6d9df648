using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>
/// The bytes of one sequence's pages and tables in the formats of a configuration, computed from the layouts that the cache itself uses. The working
/// memory of steps and bookkeeping are not included.
/// </summary>
internal sealed class ContextPlan
{
    private readonly KvGeometry _geometry;
    private readonly KvLayouts _layouts;

    /// <summary>Plans the pages of all layers in one pair of formats, except layers at the edges that have formats of their own.</summary>
    /// <exception cref="KvConfigurationException">A format does not take the geometry's width, or the two are no pair.</exception>
    public ContextPlan(KvGeometry geometry, PageFormat key, PageFormat value)
        : this(geometry, new KvCacheOptions { KeyFormat = key, ValueFormat = value })
    {
    }

    /// <summary>Plans the pages of a configuration.</summary>
    /// <exception cref="KvConfigurationException">E003: a setting does not fit the geometry.</exception>
    public ContextPlan(KvGeometry geometry, KvCacheOptions config)
    {
        (_geometry, _layouts) = (geometry, KvCache.LayoutsFor(geometry, config));
        Formats = new KvFormats(config.KeyFormat, config.ValueFormat);
        SealedPageBytes = new PageLayout(geometry, config.KeyFormat, config.ValueFormat).Bytes;
    }

    /// <summary>Formats of the layers that have none of their own.</summary>
    public KvFormats Formats { get; }

    /// <summary>Bytes of one sealed page in these formats.</summary>
    public int SealedPageBytes { get; }

    /// <summary>The layout of sealed pages, by layer.</summary>
    public IReadOnlyList<PageLayout> Layers => _layouts.Sealed;

    /// <summary>Bytes that one more token takes over all layers and heads, in the long run.</summary>
    public double BytesPerToken => PerToken(page => page.Bytes);

    /// <summary>Bytes of elements per token.</summary>
    public double ElementBytesPerToken => PerToken(page => (page.KeyWords + page.ValueWords) * page.PageTokens * sizeof(int));

    /// <summary>Bytes of scales per token.</summary>
    public double ScaleBytesPerToken => PerToken(page => (page.KeyScalePlanes + page.ValueScalePlanes) * page.ScaleStride * 2);

    /// <summary>Bytes of the pages' means per token.</summary>
    public double MeanBytesPerToken => PerToken(page => page.HasDigest ? page.DigestStride * 2 : 0);

    /// <summary>Bytes of the pages' deviations per token, which together with the means are the digest.</summary>
    public double DeviationBytesPerToken => MeanBytesPerToken;

    /// <summary>Bytes of padding between pages per token.</summary>
    public double PaddingBytesPerToken =>
        BytesPerToken - ElementBytesPerToken - ScaleBytesPerToken - MeanBytesPerToken - DeviationBytesPerToken;

    private long Rows => (long)_geometry.Layers * _geometry.KvHeads;

    private long SealedBytes => Layers.Sum(page => (long)page.Bytes) * _geometry.KvHeads;

    /// <summary>Bytes of the pages of <paramref name="tokens"/> tokens: sealed pages, and open ones at the end.</summary>
    public long PageBytes(long tokens)
    {
        // Page i is sealed once the page after it is full: (i + 2) * P <= tokens.
        long pages = (tokens + _geometry.PageTokens - 1) / _geometry.PageTokens;
        long sealedPages = Math.Max(0, (tokens / _geometry.PageTokens) - 1);
        return checked((sealedPages * SealedBytes) + (Rows * (pages - sealedPages) * _layouts.Open.Bytes));
    }

    /// <summary>Bytes of the page tables of one sequence.</summary>
    /// <exception cref="OverflowException">There are more entries than tables can hold.</exception>
    public long TableBytes(long tokens)
    {
        int capacity = checked((int)((tokens + _geometry.PageTokens - 1) / _geometry.PageTokens));
        return new TableMap(new KernelShape(_geometry, _layouts.Open, Layers[0], rotationSeed: 0, sequences: 1, capacity)).Bytes;
    }

    /// <summary>Bytes of pages and tables.</summary>
    public long Bytes(long tokens) => PageBytes(tokens) + TableBytes(tokens);

    /// <summary>
    /// The most bytes of pages and tables while a sequence grows to <paramref name="tokens"/> one by one: until a page is full, it and the page before it are open.
    /// </summary>
    public long PeakBytes(long tokens)
    {
        long pages = (tokens + _geometry.PageTokens - 1) / _geometry.PageTokens;
        long openPages = Math.Min(pages, 2);
        return checked(((pages - openPages) * SealedBytes) + (Rows * openPages * _layouts.Open.Bytes)) + TableBytes(tokens);
    }

    /// <summary>The most tokens to which a sequence can grow within <paramref name="budget"/>, at most as many as tables can list.</summary>
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

    // Words of an entry of a row's table: slot, tag, scores, and two numbers per query head. All tables together have at most 2^31 words.
    private long MostTokens()
    {
        long words = (Rows * (1 + _geometry.GroupSize)) + PageLayout.UnitWords;
        long pages = (int.MaxValue - words) / (Rows * (2 + TableMap.ScoreWords + (2L * _geometry.GroupSize)));
        return Math.Min(pages, TableMap.MaxPageIndex) * _geometry.PageTokens;
    }

    private double PerToken(Func<PageLayout, long> bytes) => (double)Layers.Sum(bytes) * _geometry.KvHeads / _geometry.PageTokens;
}
