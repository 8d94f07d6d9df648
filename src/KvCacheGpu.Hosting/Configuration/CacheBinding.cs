namespace KvCacheGpu.Hosting;

/// <summary>Reads the members of <see cref="KvCacheOptions"/>, and what a host has beside them, from a section. The one table of the names that a configuration may have.</summary>
internal static class CacheBinding
{
    /// <summary>What takes the values of a section.</summary>
    /// <param name="o">Receives them.</param>
    public static IReadOnlyDictionary<string, Action<SettingValue>> Takers(KvCacheHostOptions o) => new Dictionary<string, Action<SettingValue>>
    {
        [nameof(KvCacheHostOptions.Geometry)] = v => o.Geometry = GeometryBinding.Read(v),
        [nameof(KvCacheHostOptions.Sessions)] = v => ReadSessions(v, o.Sessions),
        [nameof(KvCacheHostOptions.DegradedAbove)] = v => o.DegradedAbove = v.Double,
        [nameof(KvCacheOptions.Tiers)] = v => ReadTiers(v, o.Tiers),
        [nameof(KvCacheOptions.KeyScales)] = v => o.KeyScales = v.Text,
        [nameof(KvCacheOptions.Name)] = v => o.Cache.Name = v.Text,
        [nameof(KvCacheOptions.Device)] = v => o.Cache.Device = v.Text,
        [nameof(KvCacheOptions.MaxTokens)] = v => o.Cache.MaxTokens = v.Int32,
        [nameof(KvCacheOptions.MaxSequenceTokens)] = v => o.Cache.MaxSequenceTokens = v.Int32,
        [nameof(KvCacheOptions.ExactRollbackTokens)] = v => o.Cache.ExactRollbackTokens = v.Int32,
        [nameof(KvCacheOptions.MaxSequences)] = v => o.Cache.MaxSequences = v.Int32,
        [nameof(KvCacheOptions.MaxBatchTokens)] = v => o.Cache.MaxBatchTokens = v.Int32,
        [nameof(KvCacheOptions.KeyFormat)] = v => o.Cache.KeyFormat = v.Format,
        [nameof(KvCacheOptions.ValueFormat)] = v => o.Cache.ValueFormat = v.Format,
        [nameof(KvCacheOptions.LayerFormats)] = v => o.Cache.LayerFormats = Layers(v),
        [nameof(KvCacheOptions.EdgeLayers)] = v => o.Cache.EdgeLayers = v.Int32,
        [nameof(KvCacheOptions.DemotionFormats)] = v => o.Cache.DemotionFormats = [.. v.Children.Select(one => one.Value.Formats)],
        [nameof(KvCacheOptions.NonFinite)] = v => o.Cache.NonFinite = v.Enum<NonFinitePolicy>(),
        [nameof(KvCacheOptions.AttentionPrecision)] = v => o.Cache.AttentionPrecision = v.Enum<KvAttentionPrecision>(),
        [nameof(KvCacheOptions.MeasureKernels)] = v => o.Cache.MeasureKernels = v.Boolean,
        [nameof(KvCacheOptions.FullPrecision)] = v => o.Cache.FullPrecision = v.Format,
        [nameof(KvCacheOptions.MemoryBudgetBytes)] = v => o.Cache.MemoryBudgetBytes = v.Int64,
        [nameof(KvCacheOptions.MemoryBudgetPercent)] = v => o.Cache.MemoryBudgetPercent = v.Double,
        [nameof(KvCacheOptions.RotationSeed)] = v => o.Cache.RotationSeed = v.UInt64,
        [nameof(KvCacheOptions.Policy)] = v => o.Cache.Policy = v.Policy,
        [nameof(KvCacheOptions.Watermark)] = v => o.Cache.Watermark = v.Double,
        [nameof(KvCacheOptions.MergePages)] = v => o.Cache.MergePages = v.Boolean,
        [nameof(KvCacheOptions.PlanEvery)] = v => o.Cache.PlanEvery = v.Int32,
        [nameof(KvCacheOptions.PageStatistics)] = v => o.Cache.PageStatistics = v.Boolean,
        [nameof(KvCacheOptions.ScoreEvery)] = v => o.Cache.ScoreEvery = v.Int32,
        [nameof(KvCacheOptions.ObservedQueries)] = v => o.Cache.ObservedQueries = v.Int32,
        [nameof(KvCacheOptions.PrefixReuse)] = v => o.Cache.PrefixReuse = v.Boolean,
        [nameof(KvCacheOptions.PrefixEvents)] = v => o.Cache.PrefixEvents = v.Boolean,
        [nameof(KvCacheOptions.Backup)] = v => o.Cache.Backup = v.Enum<KvBackup>(),
        [nameof(KvCacheOptions.EnablePrefetch)] = v => o.Cache.EnablePrefetch = v.Boolean,
        [nameof(KvCacheOptions.PrefetchSize)] = v => o.Cache.PrefetchSize = v.Int32,
        [nameof(KvCacheOptions.RecomputeTokensPerSecond)] = v => o.Cache.RecomputeTokensPerSecond = v.Double,
        [nameof(KvCacheOptions.Offload)] = v => o.Cache.Offload = Offload(v),
        [nameof(KvCacheOptions.SwapBudgetBytes)] = v => o.Cache.SwapBudgetBytes = v.Int64,
        [nameof(KvCacheOptions.ModelFingerprint)] = v => o.Cache.ModelFingerprint = v.Text,
        [nameof(KvCacheOptions.TenantQuotas)] = v => o.Cache.TenantQuotas = v.Children.ToDictionary(one => one.Name, one => Quota(one.Value)),
        [nameof(KvCacheOptions.MeasureTenants)] = v => o.Cache.MeasureTenants = v.Boolean,
        [nameof(KvCacheOptions.PoisonPages)] = v => o.Cache.PoisonPages = v.Boolean,
    };

    private static Dictionary<int, KvFormats> Layers(SettingValue section)
    {
        var formats = new Dictionary<int, KvFormats>();
        foreach ((string name, SettingValue value) in section.Children)
        {
            if (!formats.TryAdd(LayerOf(name, value), value.Formats))
            {
                throw value.Not("each layer once", $"layer {LayerOf(name, value)} twice");
            }
        }

        return formats;
    }

    private static int LayerOf(string name, SettingValue value) =>
        int.TryParse(name, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int layer) ? layer : throw value.Not("a layer's number as its name", $"'{name}'");

    private static KvTenantQuota Quota(SettingValue section)
    {
        long? bytes = null, tokens = null;
        section.Read(new Dictionary<string, Action<SettingValue>> { [nameof(KvTenantQuota.Bytes)] = v => bytes = v.Int64, [nameof(KvTenantQuota.Tokens)] = v => tokens = v.Int64 });
        return bytes < 0 || tokens < 0 ? throw section.Not("0 or more bytes and tokens", "fewer") : new KvTenantQuota { Bytes = bytes, Tokens = tokens };
    }

    private static KvOffload Offload(SettingValue section)
    {
        long budget = 0;
        int? staged = null, selected = null;
        section.Read(new Dictionary<string, Action<SettingValue>>
        {
            [nameof(KvOffload.BudgetBytes)] = v => budget = v.Int64,
            [nameof(KvOffload.StagedPages)] = v => staged = v.Int32,
            [nameof(KvOffload.SelectedPages)] = v => selected = v.Int32,
        });
        return new KvOffload(budget) { StagedPages = staged, SelectedPages = selected };
    }

    private static void ReadTiers(SettingValue section, IList<KvTierOptions> tiers)
    {
        foreach ((string _, SettingValue value) in section.Children)
        {
            long bytes = 0;
            string? directory = null;
            value.Read(new Dictionary<string, Action<SettingValue>> { [nameof(KvTierOptions.Bytes)] = v => bytes = v.Int64, [nameof(KvTierOptions.Directory)] = v => directory = v.Text });
            tiers.Add(new KvTierOptions(bytes, directory));
        }
    }

    private static void ReadSessions(SettingValue section, KvSessionsOptions sessions) => section.Read(new Dictionary<string, Action<SettingValue>>
    {
        [nameof(KvSessionsOptions.Directory)] = v => sessions.Directory = v.Text,
        [nameof(KvSessionsOptions.IdleAfter)] = v => sessions.IdleAfter = v.Text.Equals("never", StringComparison.OrdinalIgnoreCase) ? null : v.Time,
    });
}
