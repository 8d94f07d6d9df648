using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>The names of cache settings and their meaning. A new format or policy is added here.</summary>
public static class EvalCaches
{
    /// <summary>The policy that drops nothing.</summary>
    public const string NoPolicy = "none";

    /// <summary>The policy that knows the attention to come: the bound of all policies that only drop. Only evaluations have this name.</summary>
    public const string Oracle = "oracle";

    /// <summary>What follows the name of a policy whose pages lie in host memory once it lets them go. A number may follow: how many of them a token reads of each row; without one it reads all.</summary>
    public const string OnHost = "+host";

    private const string Window = "window";
    private const char PairSign = '+';

    /// <summary>Names of formats of keys, each of which stands for the pair with the values that go with it: "t4" for T4 and V4.</summary>
    public static IReadOnlyCollection<string> Formats { get; } = [.. Enum.GetValues<PageFormat>().Where(f => f.IsForKeys()).Select(f => f.Name())];

    /// <summary>Names of policies.</summary>
    public static IReadOnlyCollection<string> Policies { get; } = [.. KvPolicies.Names, Oracle, .. KvPolicies.Names.Where(name => name != NoPolicy).Select(name => name + OnHost)];

    /// <summary>True if a name is one of <see cref="Policies"/>, or one that ends in <see cref="OnHost"/> with a number from 1 on.</summary>
    public static bool IsPolicy(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        string policy = WithoutHost(name, out _, out int? selected);
        return selected is null ? Policies.Contains(name) : Policies.Contains(policy + OnHost) && selected > 0;
    }

    /// <summary>The shortest name of a pair that is named by its keys, "t4", or by both, "i8+v4"; null if a text names no pair.</summary>
    public static string? FormatNamed(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return !TryParse(text, out KvFormats pair) ? null
            : pair.Value == ValueWith(pair.Key) ? pair.Key.Name()
            : $"{pair.Key.Name()}{PairSign}{pair.Value.Name()}";
    }

    /// <summary>The configuration of a cache for one sequence.</summary>
    /// <param name="setting">The cache to measure, whose names are known.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="tokens">Tokens that the sequence reaches.</param>
    /// <param name="device">Where it lives.</param>
    /// <param name="future">What "oracle" knows. The default value is null, with which there is none.</param>
    /// <exception cref="ArgumentException">The policy is unknown, or its future is.</exception>
    public static KvCacheOptions Config(EvalSetting setting, KvGeometry geometry, int tokens, string device, KvFutureMass? future = null)
    {
        ArgumentNullException.ThrowIfNull(setting);
        ArgumentNullException.ThrowIfNull(geometry);
        (PageFormat key, PageFormat value) = FormatsOf(setting.Format);
        KvCacheOptions config = new()
        {
            Device = device,
            MaxTokens = tokens,
            MaxSequences = 1,
            MaxBatchTokens = EvalScale.StepTokens,
            KeyFormat = key,
            ValueFormat = value,
        };
        string name = WithoutHost(setting.Policy, out bool isOnHost, out int? selected);
        config.Policy = name switch
        {
            Window => new WindowPolicy(geometry.PageTokens),
            Oracle => new ForesightPolicy(future ?? throw new ArgumentException("expected a future for the oracle, got none", nameof(future))),
            _ => KvPolicies.TryParse(name, out KvPolicy? policy) ? policy : throw new ArgumentException($"expected a policy, got {setting.Policy}", nameof(setting)),
        };
        config.DemotionFormats = DemotionsOf(config, geometry);
        config.MemoryBudgetBytes = BudgetOf(setting, geometry, config);
        if (isOnHost)
        {
            config.Offload = OffloadWithin(geometry, config) with { SelectedPages = selected };
        }
        else if (setting.Policy == Window)
        {
            config.Policy = new WindowPolicy(WindowSize.Within(geometry, config));
        }

        return config;
    }

    /// <summary>The bytes that a setting's budget allows a cache; null without a budget.</summary>
    /// <param name="setting">The setting.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="config">The rest of the cache's configuration, whose own budget does not count.</param>
    internal static long? BudgetOf(EvalSetting setting, KvGeometry geometry, KvCacheOptions config)
    {
        if (setting.Budget is not { } share)
        {
            return null;
        }

        KvCacheOptions unlimited = config.Copy();

        // Pages that come back from host memory take their places out of the budget, as those that stay.
        (unlimited.MemoryBudgetBytes, unlimited.Offload) = (null, null);
        return (setting.AboveEmpty ? KvCache.BytesFor(geometry, unlimited).CreatedBytes : 0) + (long)(share * geometry.DenseF16Bytes(config.MaxTokens));
    }

    private static string WithoutHost(string name, out bool isOnHost, out int? selected)
    {
        int at = name.LastIndexOf(OnHost, StringComparison.Ordinal);
        string rest = at < 0 ? string.Empty : name[(at + OnHost.Length)..];
        selected = int.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : null;
        isOnHost = at >= 0 && (rest.Length == 0 || selected is not null);
        return isOnHost ? name[..at] : name;
    }

    // Room in host memory for all pages. On the device for all of one layer, or as many as the budget holds beside the pages that the policy keeps at least.
    private static KvOffload OffloadWithin(KvGeometry geometry, KvCacheOptions config)
    {
        KvOffload least = new(2 * geometry.DenseF16Bytes(config.MaxTokens)) { StagedPages = geometry.KvHeads };
        KvCacheOptions poor = config.Copy();
        (poor.Offload, poor.MemoryBudgetBytes) = (least, null);
        long spare = (config.MemoryBudgetBytes ?? long.MaxValue) - KvCache.BytesFor(geometry, poor).MinimumBytes;
        long page = KvCache.LayoutsFor(geometry, config).Sealed.Max(layout => layout.Bytes);
        long all = (long)geometry.KvHeads * geometry.PagesFor(config.MaxTokens);
        return least with { StagedPages = (int)Math.Clamp(geometry.KvHeads + (spare * 9 / 10 / page), geometry.KvHeads, all) };
    }

    /// <summary>
    /// The formats to which the adaptive policy may demote pages: I8 with V4, T4 with V4 and T2 with V2 from full precision and from I8, T2 with V2 from T4 and T3; none
    /// for other policies.
    /// </summary>
    /// <param name="config">Its policy and formats.</param>
    /// <param name="geometry">The model's shape.</param>
    public static IReadOnlyList<KvFormats> DemotionsOf(KvCacheOptions config, KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(geometry);
        return config.Policy is AdaptivePolicy
            ? [.. DemotionsOf(config.KeyFormat).Where(formats => formats.Key.Takes(geometry.KeyWidth) && formats.Value.Takes(geometry.ValueWidth))]
            : [];
    }

    /// <summary>The meaning of a setting's name, without its budget and whatever depends on the model's shape. It is part of a result's identity.</summary>
    internal static string Meaning(EvalSetting setting)
    {
        (PageFormat key, PageFormat value) = FormatsOf(setting.Format);
        KvCacheOptions standard = new();
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{key}/{value} -> {string.Join(' ', DemotionsOf(key))} {standard.Watermark:R} {standard.PlanEvery} {standard.ScoreEvery} {standard.MergePages}");
    }

    // A part is encoded twice at most: what went from F16 by way of I8 to T4 cannot go on to T2 when room gets scarcer, and is dropped then. I8 with V4 loses so little that it pays all the same.
    private static KvFormats[] DemotionsOf(PageFormat key)
    {
        (KvFormats v4, KvFormats t4, KvFormats t2) = (new(PageFormat.I8, PageFormat.V4), new(PageFormat.T4, PageFormat.V4), new(PageFormat.T2, PageFormat.V2));
        return key.IsFullPrecision() || key == PageFormat.I8 ? [v4, t4, t2] : key is PageFormat.T4 or PageFormat.T3 ? [t2] : [];
    }

    private static PageFormat ValueWith(PageFormat key) => key switch
    {
        PageFormat.T4 => PageFormat.V4,
        PageFormat.T3 => PageFormat.V3,
        PageFormat.T2 => PageFormat.V2,
        _ => key,
    };

    /// <summary>True if a format takes fewer bits than F16.</summary>
    public static bool Compresses(string format) => FormatsOf(format).Key.BitsPerElement() + FormatsOf(format).Value.BitsPerElement() < 32;

    private static KvFormats FormatsOf(string name) =>
        TryParse(name, out KvFormats pair) ? pair : throw new ArgumentException($"expected a format or a pair of formats, got {name}", nameof(name));

    private static bool TryParse(string text, out KvFormats pair)
    {
        int sign = text.IndexOf(PairSign, StringComparison.Ordinal);
        bool isKnown = PageFormats.TryParse(sign < 0 ? text : text[..sign], out PageFormat key);
        PageFormat value = ValueWith(key);
        isKnown = isKnown && (sign < 0 || PageFormats.TryParse(text[(sign + 1)..], out value));
        pair = new KvFormats(key, value);
        return isKnown && PageFormats.IsPair(key, value);
    }
}
