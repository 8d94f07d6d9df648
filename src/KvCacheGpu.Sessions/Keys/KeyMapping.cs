using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// From the keys to the options of a <see cref="KvCache"/>:
/// <code>
/// key                                      option
///   max_tokens                             MaxTokens
///   cache_strategy, cache_mode             Policy, its sinks and window; MaxBatchTokens
///   use_quantization, quantization_bits    KeyFormat, ValueFormat
///   use_compression, _ratio, _method       KeyFormat, ValueFormat
///   adaptive_compression, _quantization    DemotionFormats
///   dtype                                  FullPrecision; KeyFormat, ValueFormat without compression
///   max_memory_mb                          MemoryBudgetBytes
///   enable_gc, gc_threshold                Watermark
/// </code>
/// All other options keep their defaults, unless <see cref="KvCacheConfig.ConfigureOptions"/> sets them.
/// </summary>
internal static class KeyMapping
{
    private const long BytesPerMb = 1 << 20;
    private const int SinkTokens = 4;

    // The most precise first.
    private static readonly KvFormats[] Rungs =
    [
        new(PageFormat.I8, PageFormat.I8),
        new(PageFormat.I8, PageFormat.V4),
        new(PageFormat.T4, PageFormat.V4),
        new(PageFormat.T3, PageFormat.V3),
        new(PageFormat.T2, PageFormat.V2),
    ];

    /// <summary>The options, from a configuration whose keys are in range.</summary>
    public static KvCacheOptions OptionsOf(KvCacheConfig config, KvGeometry geometry)
    {
        KvFormats formats = FormatsOf(config, geometry);
        long? budget = config.Memory.MaxMemoryMb * BytesPerMb;
        var options = new KvCacheOptions
        {
            MaxTokens = config.MaxTokens,
            MaxBatchTokens = StepTokens(config.CacheMode),
            KeyFormat = formats.Key,
            ValueFormat = formats.Value,
            FullPrecision = Full(config),
            Policy = Policy(config),
            MemoryBudgetBytes = budget,
            Watermark = config.Memory.EnableGc ? config.Memory.GcThreshold : 1,
        };
        config.ConfigureOptions?.Invoke(options);
        if (options.MemoryBudgetPercent is not null && options.MemoryBudgetBytes == budget)
        {
            options.MemoryBudgetBytes = null;
        }

        if (options.DemotionFormats is { Count: 0 })
        {
            options.DemotionFormats = Ladder(config, geometry, new KvFormats(options.KeyFormat, options.ValueFormat));
        }

        return options;
    }

    /// <summary>What the formats cannot do.</summary>
    public static IEnumerable<KvConfigurationWarning> WarningsOf(KvCacheConfig config, KvGeometry geometry, KvCacheOptions options)
    {
        var formats = new KvFormats(options.KeyFormat, options.ValueFormat);
        double kept = Fraction(config, geometry, formats);
        if (Compresses(config) && kept > config.Compression.CompressionRatio)
        {
            yield return new KvConfigurationWarning(
                "compression_ratio", FormattableString.Invariant($"not reached: pages in {formats} keep {kept:0.00} of {config.Compression.CompressionRatio}"));
        }

        if (Quantizes(config) && config.Compression.QuantizationBits < 16 && formats.Key.IsFullPrecision())
        {
            yield return new KvConfigurationWarning("quantization_bits", $"inactive: no such format takes heads of width {geometry.KeyWidth}");
        }
    }

    private static KvFormats FormatsOf(KvCacheConfig config, KvGeometry geometry) =>
        CompressedFormats(config, geometry) ?? new KvFormats(Full(config), Full(config));

    private static KvFormats? CompressedFormats(KvCacheConfig config, KvGeometry geometry)
    {
        if (Quantizes(config))
        {
            return config.Compression.QuantizationBits switch
            {
                8 => Taken(Rungs[0]),
                4 => Taken(Rungs[2]),
                3 => Taken(Rungs[3]),
                2 => Taken(Rungs[4]),
                _ => null,
            };
        }

        if (!Compresses(config))
        {
            return null;
        }

        if (PageFormats.TryParse(config.Compression.CompressionMethod, out PageFormat method))
        {
            return Pair(method);
        }

        if (config.Compression.CompressionRatio >= 1)
        {
            return null;
        }

        KvFormats[] taken = [.. Rungs.Where(rung => Takes(geometry, rung))];
        return taken.Where(rung => Fraction(config, geometry, rung) <= config.Compression.CompressionRatio).Concat(taken.TakeLast(1)).Cast<KvFormats?>().FirstOrDefault();

        KvFormats? Taken(KvFormats rung) => Takes(geometry, rung) ? rung : null;
    }

    private static IReadOnlyList<KvFormats> Ladder(KvCacheConfig config, KvGeometry geometry, KvFormats formats)
    {
        bool may = Quantizes(config) ? config.Compression.AdaptiveQuantization : Compresses(config) && config.Compression.AdaptiveCompression;
        bool arePages = PageFormats.IsPair(formats.Key, formats.Value) && Takes(geometry, formats);
        if (config.CacheStrategy != KvCacheStrategy.Adaptive || !may || !arePages)
        {
            return [];
        }

        return
        [
            .. new[] { Rungs[0], Rungs[2], Rungs[4] }.Where(rung => Takes(geometry, rung) && formats.MayBecome(rung)),
        ];
    }

    private static bool Quantizes(KvCacheConfig config) => config.Compression.UseQuantization || config.CacheStrategy == KvCacheStrategy.Quantized;

    private static bool Compresses(KvCacheConfig config) =>
        !Quantizes(config) && (config.Compression.UseCompression || config.CacheStrategy == KvCacheStrategy.Compressed);

    private static KvPolicy? Policy(KvCacheConfig config)
    {
        int quarter = Math.Max(1, config.MaxTokens / 4);
        int window = Math.Min(config.CacheMode == KvCacheMode.Interactive ? 256 : 64, quarter);
        return (config.CacheStrategy, config.CacheMode) switch
        {
            (KvCacheStrategy.Paged or KvCacheStrategy.Compressed or KvCacheStrategy.Quantized, _) => null,
            (_, KvCacheMode.Streaming) => new WindowPolicy(SinkTokens, quarter),
            (KvCacheStrategy.Lru, _) => new LruPolicy { WindowTokens = window },
            (KvCacheStrategy.Lfu, _) => new LfuPolicy { WindowTokens = window },
            _ => new AdaptivePolicy { WindowTokens = window },
        };
    }

    private static int StepTokens(KvCacheMode mode) => mode switch
    {
        KvCacheMode.Bulk => 2048,
        KvCacheMode.Streaming or KvCacheMode.Interactive => 128,
        _ => 512,
    };

    private static PageFormat Full(KvCacheConfig config) => config.Compression.Dtype switch
    {
        KvDtype.BFloat16 => PageFormat.BF16,
        KvDtype.Float32 => PageFormat.F32,
        _ => PageFormat.F16,
    };

    private static KvFormats Pair(PageFormat format) => format switch
    {
        PageFormat.T4 or PageFormat.V4 => new KvFormats(PageFormat.T4, PageFormat.V4),
        PageFormat.T3 or PageFormat.V3 => new KvFormats(PageFormat.T3, PageFormat.V3),
        PageFormat.T2 or PageFormat.V2 => new KvFormats(PageFormat.T2, PageFormat.V2),
        _ => new KvFormats(format, format),
    };

    private static bool Takes(KvGeometry geometry, KvFormats formats) => formats.Key.Takes(geometry.KeyWidth) && formats.Value.Takes(geometry.ValueWidth);

    private static double Fraction(KvCacheConfig config, KvGeometry geometry, KvFormats formats) =>
        !Takes(geometry, formats) ? 1 : (double)PageBytes(geometry, formats) / PageBytes(geometry, new KvFormats(Full(config), Full(config)));

    private static int PageBytes(KvGeometry geometry, KvFormats formats) => new PageLayout(geometry, formats.Key, formats.Value).Bytes;
}
