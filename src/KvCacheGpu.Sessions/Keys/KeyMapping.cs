using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// From the keys to the options of a <see cref="KvCache"/>; <see cref="KvConfigurationKey.Sets"/> says which key sets which. Options that no key sets
/// keep their defaults, unless <see cref="KvCacheConfig.ConfigureOptions"/> sets them.
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
            EnablePrefetch = config.Prefetch.EnablePrefetch,
            PrefetchSize = config.Prefetch.PrefetchSize,
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

    /// <summary>The formats that pages are sealed in.</summary>
    public static KvFormats FormatsOf(in KeyContext context) => new(context.Options.KeyFormat, context.Options.ValueFormat);

    /// <summary>Part of the bytes of full precision that a sealed page takes.</summary>
    public static double KeptOf(in KeyContext context) => Fraction(context.Config, context.Geometry, FormatsOf(context));

    /// <summary>Says in which formats something is lost; null if nothing is.</summary>
    public static string? LossOf(in KeyContext context)
    {
        KvFormats formats = FormatsOf(context);
        if (formats.Key.IsFullPrecision() && formats.Value.IsFullPrecision())
        {
            return null;
        }

        string strategy = context.Config.CacheStrategy is KvCacheStrategy.Compressed or KvCacheStrategy.Quantized ? ", and another cache_strategy" : string.Empty;
        return FormattableString.Invariant(
            $"lossy: pages are sealed in {formats}, {KeptOf(context):0.00} of full precision, and a model's output changes. Without loss: use_compression and use_quantization false{strategy}");
    }

    private static KvFormats FormatsOf(KvCacheConfig config, KvGeometry geometry) =>
        CompressedFormats(config, geometry) ?? new KvFormats(Full(config), Full(config));

    private static KvFormats? CompressedFormats(KvCacheConfig config, KvGeometry geometry)
    {
        if (config.Quantizes)
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

        if (!config.Compresses)
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
        bool may = config.Quantizes ? config.Compression.AdaptiveQuantization : config.Compresses && config.Compression.AdaptiveCompression;
        bool arePages = PageFormats.IsPair(formats.Key, formats.Value) && Takes(geometry, formats);
        if (config.CacheStrategy != KvCacheStrategy.Adaptive || !may || !arePages)
        {
            return [];
        }

        return [.. new[] { Rungs[0], Rungs[2], Rungs[4] }.Where(rung => Takes(geometry, rung) && formats.MayBecome(rung))];
    }

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
