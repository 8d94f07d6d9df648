using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>
/// The bytes of sequences in the formats of a configuration, as the cache itself counts them (<see cref="KvSequenceBytes"/>).
/// </summary>
internal sealed class ContextPlan
{
    private readonly KvGeometry _geometry;
    private readonly KvCacheOptions _config;
    private readonly KvCacheOptions _longest;
    private readonly KvLayouts _layouts;

    /// <summary>
    /// Plans the pages of all layers in one pair of formats, except layers at the edges that have formats of their own, of a cache that is made for
    /// <paramref name="sequences"/> of <paramref name="context"/> tokens each.
    /// </summary>
    /// <exception cref="KvConfigurationException">A format does not take the geometry's width, or the two are no pair.</exception>
    public ContextPlan(KvGeometry geometry, PageFormat key, PageFormat value, int context = TableMap.MaxPageIndex, int sequences = 1)
        : this(geometry, new KvCacheOptions
        {
            // What the empty cache takes must not depend on the devices of the machine that plans.
            Device = "cpu",
            KeyFormat = key,
            ValueFormat = value,
            MaxTokens = (int)Math.Min((long)context * sequences, TableMap.MaxPageIndex),
            MaxSequences = sequences,
        })
    {
    }

    /// <summary>Plans the pages of a configuration.</summary>
    /// <exception cref="KvConfigurationException">E003: a setting does not fit the geometry.</exception>
    public ContextPlan(KvGeometry geometry, KvCacheOptions config)
    {
        (_geometry, _config, _layouts) = (geometry, config, KvCache.LayoutsFor(geometry, config));
        _longest = config.Copy();
        (_longest.MaxSequenceTokens, _longest.MaxSequences) = (TableMap.MaxPageIndex, 1);
        Formats = new KvFormats(config.KeyFormat, config.ValueFormat);
        SealedPageBytes = new PageLayout(geometry, config.KeyFormat, config.ValueFormat).Bytes;
    }

    /// <summary>Formats of the layers that have none of their own.</summary>
    public KvFormats Formats { get; }

    /// <summary>Bytes of one sealed page in these formats.</summary>
    public int SealedPageBytes { get; }

    /// <summary>Bytes of one open page.</summary>
    public int OpenPageBytes => _layouts.Open.Bytes;

    /// <summary>Bytes of a block of prefixes in a lower tier.</summary>
    public long BlockBytes => _layouts.BlockBytes(_geometry.KvHeads);

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

    /// <summary>
    /// Bytes of the cache before it has a sequence: the root of the tables, a step's working memory, what is kept of slabs. Null if there is no such cache without a
    /// budget: its pages would take more than an arena.
    /// </summary>
    public long? EmptyCacheBytes
    {
        get
        {
            try
            {
                return KvCache.BytesFor(_geometry, _config).CreatedBytes;
            }
            catch (KvConfigurationException)
            {
                return null;
            }
        }
    }

    /// <summary>Bytes of a sequence of so many tokens.</summary>
    public KvSequenceBytes Sequence(int tokens) =>
        KvSequenceBytes.For(_geometry, tokens, tokens > (_config.MaxSequenceTokens ?? _config.MaxTokens) ? _longest : _config);

    /// <summary>Bytes of the pages of <paramref name="tokens"/> tokens: sealed pages, and open ones at the end.</summary>
    public long PageBytes(int tokens) => Sequence(tokens).Pages;

    /// <summary>Bytes of pages and tables.</summary>
    public long Bytes(int tokens)
    {
        KvSequenceBytes bytes = Sequence(tokens);
        return bytes.Pages + bytes.Tables;
    }

    /// <summary>The most bytes of pages and tables while a sequence grows to <paramref name="tokens"/> one by one.</summary>
    public long PeakBytes(int tokens)
    {
        KvSequenceBytes bytes = KvSequenceBytes.For(_geometry, tokens, _longest);
        return bytes.MostPages + bytes.Tables;
    }

    /// <summary>The most tokens to which a sequence can grow within <paramref name="budget"/>, at most as many as a cache takes.</summary>
    public int TokensIn(long budget)
    {
        (int fits, int beyond) = (0, TableMap.MaxPageIndex + 1);
        while (beyond - fits > 1)
        {
            int middle = fits + ((beyond - fits) / 2);
            (fits, beyond) = PeakBytes(middle) <= budget ? (middle, beyond) : (fits, middle);
        }

        return fits;
    }

    private double PerToken(Func<PageLayout, long> bytes) => (double)Layers.Sum(bytes) * _geometry.KvHeads / _geometry.PageTokens;
}
