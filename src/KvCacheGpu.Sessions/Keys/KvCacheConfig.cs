namespace KvCacheGpu;

/// <summary>
/// What an <see cref="UltraAdaptiveKvCacheEngine"/> is made with: the keys of configuration files, in groups. A key in Pascal case is the name of
/// its property, in whichever group that stands: <c>max_tokens</c> is <see cref="MaxTokens"/>, <c>compression_ratio</c> is
/// <see cref="KvCompressionOptions.CompressionRatio"/>. Files write the names of enum members in lower case. <see cref="KvConfigurationKeys.All"/> lists
/// the keys with their domains and meanings.
/// </summary>
/// <remarks>
/// A <see cref="KvCache"/> does not take it. <see cref="ToOptions"/> gives the options in which the keys are in force, and
/// <see cref="Validate"/> says what that does.
/// Thread safety: it is set up by one thread; whoever takes it, takes a copy.
/// </remarks>
public sealed class KvCacheConfig
{
    /// <summary>
    /// False if a host shall not go by this configuration, and make plain caches instead (<c>enabled</c>). The default value is true. It is for hosts
    /// to ask: an engine that is made all the same goes by the other keys.
    /// </summary>
    public bool Enabled { get; set; } = true;

    /// <summary>Tokens that the cache is made for, over all sessions (<c>max_tokens</c>); as <see cref="KvCacheOptions.MaxTokens"/>. The default value is 4096.</summary>
    public int MaxTokens { get; set; } = 4096;

    /// <summary>What is done when room runs out (<c>cache_strategy</c>). The default value is <see cref="KvCacheStrategy.Adaptive"/>.</summary>
    public KvCacheStrategy CacheStrategy { get; set; } = KvCacheStrategy.Adaptive;

    /// <summary>What the cache is used for (<c>cache_mode</c>). The default value is <see cref="KvCacheMode.Inference"/>.</summary>
    public KvCacheMode CacheMode { get; set; } = KvCacheMode.Inference;

    /// <summary>Heads, width and page of the one layer that an engine has if it is made without a geometry.</summary>
    public KvModelOptions Model { get; private set; } = new();

    /// <summary>How keys and values become smaller.</summary>
    public KvCompressionOptions Compression { get; private set; } = new();

    /// <summary>How many bytes may be used, and when room is made.</summary>
    public KvMemoryOptions Memory { get; private set; } = new();

    /// <summary>Sessions on disk.</summary>
    public KvPersistenceOptions Persistence { get; private set; } = new();

    /// <summary>Pages fetched ahead.</summary>
    public KvPrefetchOptions Prefetch { get; private set; } = new();

    /// <summary>A tier shared between machines.</summary>
    public KvDistributedOptions Distributed { get; private set; } = new();

    /// <summary>Tenants.</summary>
    public KvTenancyOptions Tenancy { get; private set; } = new();

    /// <summary>Threads, warm-up and timings.</summary>
    public KvExecutionOptions Execution { get; private set; } = new();

    /// <summary>
    /// Sets those options of the cache that no key sets, as <see cref="KvCacheOptions.Device"/> and <see cref="KvCacheOptions.MaxSequences"/>, and
    /// those that code wants otherwise than the keys: it is called with the options that follow from the keys, and what it sets wins. The default
    /// value is null. It is called by <see cref="Validate"/>, <see cref="ToOptions"/> and the engine, each time with new options.
    /// </summary>
    /// <remarks>
    /// A <see cref="KvCacheOptions.MemoryBudgetPercent"/> that it sets takes the place of <c>max_memory_mb</c>. Where it leaves
    /// <see cref="KvCacheOptions.DemotionFormats"/> empty, <c>adaptive_compression</c> and <c>adaptive_quantization</c> fill them afterwards, for
    /// the formats that it has chosen.
    /// </remarks>
    public Action<KvCacheOptions>? ConfigureOptions { get; set; }

    /// <summary>A copy that changes apart from this one.</summary>
    public KvCacheConfig Copy()
    {
        var copy = (KvCacheConfig)MemberwiseClone();
        copy.Model = Model with { };
        copy.Compression = Compression with { };
        copy.Memory = Memory with { };
        copy.Persistence = Persistence with { };
        copy.Prefetch = Prefetch with { };
        copy.Distributed = Distributed with { };
        copy.Tenancy = Tenancy with { };
        copy.Execution = Execution with { };
        return copy;
    }

    /// <summary>
    /// Options of a <see cref="KvCache"/> in which the keys are in force, as <see cref="UltraAdaptiveKvCacheEngine"/> makes its own: for hosts that
    /// go through a model layer by layer. This configuration stays as it is.
    /// </summary>
    /// <param name="geometry">The model's shape.</param>
    /// <exception cref="KvConfigurationException">E003: a key is refused.</exception>
    public KvCacheOptions ToOptions(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ThrowIfRefused(geometry);
        return KeyMapping.OptionsOf(this, geometry);
    }

    /// <summary>
    /// Checks every key, without a device. A warning tells which keys have no effect here, what the mapping to options does that may surprise, as pages
    /// that lose precision, and values that are seldom meant.
    /// </summary>
    /// <param name="geometry">The model's shape; null takes that of <see cref="Model"/>.</param>
    public KvConfigurationReport Validate(KvGeometry? geometry = null)
    {
        KvConfigurationIssue[] issues = [.. KvConfigurationKeys.All.Where(key => geometry is null || key.Group != KvConfigurationKeys.Model).Select(IssueOf).OfType<KvConfigurationIssue>()];
        if (issues.Length > 0)
        {
            return new KvConfigurationReport(issues, []);
        }

        KvGeometry shape = geometry ?? Geometry();
        KvCacheOptions options = KeyMapping.OptionsOf(this, shape);
        try
        {
            _ = KvCache.LayoutsFor(shape, options);
        }
        catch (KvConfigurationException e)
        {
            return new KvConfigurationReport([new KvConfigurationIssue(e.Setting, e.Expected, e.Actual)], []);
        }

        var context = new KeyContext(this, options, shape, IsGiven: geometry is not null);
        IEnumerable<KvConfigurationWarning> warnings =
            from key in KvConfigurationKeys.All
            from warn in key.Warns
            let text = warn(context)
            where text is not null
            select new KvConfigurationWarning(key.Name, text);
        return new KvConfigurationReport([], [.. warnings]);
    }

    /// <summary>Every key and its value, "KvCacheConfig { enabled = true, max_tokens = 4096, ... }".</summary>
    public override string ToString() =>
        $"{nameof(KvCacheConfig)} {{ {string.Join(", ", KvConfigurationKeys.All.Select(key => $"{key.Name} = {key.Read(this) ?? "nothing"}"))} }}";

    /// <summary>True if the strategy evicts.</summary>
    internal bool Evicts => CacheStrategy is KvCacheStrategy.Adaptive or KvCacheStrategy.Lru or KvCacheStrategy.Lfu;

    /// <summary>True if sealed pages have <see cref="KvCompressionOptions.QuantizationBits"/>.</summary>
    internal bool Quantizes => Compression.UseQuantization || CacheStrategy == KvCacheStrategy.Quantized;

    /// <summary>True if sealed pages take <see cref="KvCompressionOptions.CompressionRatio"/> of their bytes.</summary>
    internal bool Compresses => !Quantizes && (Compression.UseCompression || CacheStrategy == KvCacheStrategy.Compressed);

    /// <summary>The shape of <see cref="Model"/>: one layer, in which each KV head has one query head.</summary>
    internal KvGeometry Geometry() => new(1, Model.NumHeads, Model.NumHeads, Model.HeadDim, pageTokens: Model.BlockSize);

    /// <exception cref="KvConfigurationException">E003: the first key that is refused.</exception>
    internal KvConfigurationReport ThrowIfRefused(KvGeometry? geometry)
    {
        KvConfigurationReport report = Validate(geometry);
        return report.Issues is [KvConfigurationIssue first, ..]
            ? throw new KvConfigurationException(first.Key, first.Expected, first.Actual)
            : report;
    }

    private KvConfigurationIssue? IssueOf(KvConfigurationKey key)
    {
        string? value = key.Read(this);
        string? expected = key.TryParse(value, isVariable: false, out _) ? key.Refuses(this) : key.Allowed;
        return expected is null ? null : new KvConfigurationIssue(key.Name, expected, value ?? "nothing");
    }
}
