using System.Reflection;
using static KvCacheGpu.PageFormat;

namespace KvCacheGpu.Tests;

/// <summary>The options of a cache: each is checked, by its name, once.</summary>
public class OptionsTests
{
    private static readonly KvGeometry G = new(layers: 2, queryHeads: 2, kvHeads: 1, keyWidth: 64, pageTokens: 4);

    // Options that every value of their type fits.
    private static readonly string[] Unchecked =
    [
        nameof(KvCacheOptions.RotationSeed), nameof(KvCacheOptions.PrefixReuse), nameof(KvCacheOptions.PoisonPages), nameof(KvCacheOptions.PageStatistics),
        nameof(KvCacheOptions.OnForgottenSequence), nameof(KvCacheOptions.EnablePrefetch), nameof(KvCacheOptions.Name),
        nameof(KvCacheOptions.MeasureKernels),
        nameof(KvCacheOptions.MeasureTenants),
    ];

    public static TheoryData<string, Action<KvCacheOptions>> Wrong => new()
    {
        { nameof(KvCacheOptions.Device), o => o.Device = " " },
        { nameof(KvCacheOptions.MaxTokens), o => o.MaxTokens = 0 },
        { nameof(KvCacheOptions.MaxSequenceTokens), o => o.MaxSequenceTokens = 0 },
        { nameof(KvCacheOptions.ExactRollbackTokens), o => o.ExactRollbackTokens = -1 },
        { nameof(KvCacheOptions.ExactRollbackTokens), o => o.ExactRollbackTokens = 1025 },
        { nameof(KvCacheOptions.MaxSequences), o => o.MaxSequences = 0 },
        { nameof(KvCacheOptions.MaxSequences), o => (o.MaxSequences, o.MaxTokens) = (int.MaxValue, 1 << 20) },
        { nameof(KvCacheOptions.MaxBatchTokens), o => o.MaxBatchTokens = 0 },
        { nameof(KvCacheOptions.KeyFormat), o => o.KeyFormat = V4 },
        { nameof(KvCacheOptions.ValueFormat), o => o.ValueFormat = T4 },
        { nameof(KvCacheOptions.ValueFormat), o => o.KeyFormat = T4 },
        { "LayerFormats[7]", o => o.LayerFormats = new Dictionary<int, KvFormats> { [7] = new(I8, I8) } },
        { "LayerFormats[1].Key", o => o.LayerFormats = new Dictionary<int, KvFormats> { [1] = new(V2, V2) } },
        { nameof(KvCacheOptions.EdgeLayers), o => o.EdgeLayers = -1 },
        { nameof(KvCacheOptions.KeyScales), o => o.KeyScales = KvKeyScales.None(new KvGeometry(layers: 9, queryHeads: 4, kvHeads: 2, keyWidth: 8)) },
        { nameof(KvCacheOptions.DemotionFormats), o => o.DemotionFormats = null! },
        { "DemotionFormats[1].Value", o => o.DemotionFormats = [new(T2, V2), new(I8, T2)] },
        { nameof(KvCacheOptions.NonFinite), o => o.NonFinite = (NonFinitePolicy)9 },
        { nameof(KvCacheOptions.FullPrecision), o => o.FullPrecision = I8 },
        { nameof(KvCacheOptions.MemoryBudgetBytes), o => o.MemoryBudgetBytes = 0 },
        { nameof(KvCacheOptions.MemoryBudgetBytes), o => o.MemoryBudgetBytes = 1 },
        { nameof(KvCacheOptions.MemoryBudgetBytes), o => (o.MemoryBudgetBytes, o.MemoryBudgetPercent) = (1 << 24, 50) },
        { nameof(KvCacheOptions.MemoryBudgetPercent), o => o.MemoryBudgetPercent = double.NaN },
        { nameof(KvCacheOptions.MemoryBudgetPercent), o => o.MemoryBudgetPercent = 1e-6 },
        { nameof(KvCacheOptions.Policy), o => o.Policy = new ExpectedAttentionPolicy() },
        { nameof(KvCacheOptions.Watermark), o => o.Watermark = 1.01 },
        { nameof(KvCacheOptions.MergePages), o => o.MergePages = true },
        { nameof(KvCacheOptions.TenantQuotas), o => o.TenantQuotas = new Dictionary<string, KvTenantQuota> { ["acme"] = null! } },
        { nameof(KvCacheOptions.PlanEvery), o => o.PlanEvery = 0 },
        { nameof(KvCacheOptions.ScoreEvery), o => o.ScoreEvery = 0 },
        { nameof(KvCacheOptions.AttentionPrecision), o => o.AttentionPrecision = (KvAttentionPrecision)2 },
        { nameof(KvCacheOptions.ObservedQueries), o => o.ObservedQueries = 65 },
        { nameof(KvCacheOptions.PrefixEvents), o => o.PrefixEvents = true },
        { nameof(KvCacheOptions.Tiers), o => o.Tiers = null! },
        { nameof(KvCacheOptions.Tiers), o => (o.PrefixReuse, o.Tiers) = (true, [null!]) },
        { nameof(KvCacheOptions.Tiers), o => (o.ModelFingerprint, o.Tiers) = ("m", [new MapTier()]) },
        { nameof(KvCacheOptions.Tiers), o => (o.PrefixReuse, o.Tiers) = (true, [new MapTier()]) },
        { nameof(KvCacheOptions.Backup), o => o.Backup = (KvBackup)2 },
        { nameof(KvCacheOptions.SwapBudgetBytes), o => o.SwapBudgetBytes = -1 },
        { nameof(KvCacheOptions.Offload), o => o.Offload = new KvOffload(1 << 20) },
        { "Offload.BudgetBytes", o => (o.Policy, o.Offload) = (new LruPolicy(), new KvOffload(0)) },
        { "Offload.SelectedPages", o => (o.Policy, o.Offload) = (new LruPolicy(), new KvOffload(1) { SelectedPages = 0 }) },
        { "Offload.StagedPages", o => (o.Policy, o.Offload) = (new LruPolicy(), new KvOffload(1) { StagedPages = 0 }) },
        { nameof(KvCacheOptions.PrefetchSize), o => o.PrefetchSize = 0 },
        { nameof(KvCacheOptions.PrefetchSize), o => o.PrefetchSize = 65 },
        { nameof(KvCacheOptions.RecomputeTokensPerSecond), o => o.RecomputeTokensPerSecond = double.PositiveInfinity },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_refusal_names_the_option(string option, Action<KvCacheOptions> change)
    {
        KvCacheOptions options = TestCaches.Config(F16);
        change(options);
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => new KvCache(G, options));
        Assert.Equal("E003", refused.Code);
        Assert.Contains(option, refused.Setting, StringComparison.Ordinal);
    }

    [Fact]
    public void Blocks_that_no_array_holds_together_are_refused_before_anything_is_taken()
    {
        var wide = new KvGeometry(layers: 128, queryHeads: 64, kvHeads: 64, keyWidth: 256, pageTokens: 128);
        var options = new KvCacheOptions { Device = "cpu", PrefixReuse = true, ModelFingerprint = "m", Tiers = [new MapTier()], PrefetchSize = 2 };
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => KvCache.BytesFor(wide, options));
        Assert.Equal(("E003", nameof(KvCacheOptions.PrefetchSize)), (refused.Code, refused.Setting));
        options.PrefetchSize = 1;
        Assert.True(KvCache.BytesFor(wide, options).ReservedBytes > 0);
    }

    [Fact]
    public void No_option_goes_unchecked()
    {
        string[] all = [.. typeof(KvCacheOptions).GetProperties(BindingFlags.Public | BindingFlags.Instance).Select(property => property.Name)];
        string[] refused = [.. Wrong.Select(row => ((string)row[0]).Split('[', '.')[0])];

        // A model's name is checked when it is set.
        Assert.Throws<ArgumentException>(() => new KvCacheOptions { ModelFingerprint = "\ud800" });
        Assert.Equal(all.Order(), refused.Concat(Unchecked).Append(nameof(KvCacheOptions.ModelFingerprint)).Distinct().Order());
    }

    [Fact]
    public void Options_are_read_once()
    {
        KvCacheOptions options = TestCaches.Config(F16, maxTokens: 64);
        using KvCache cache = TestCaches.Simd(G, options);
        (options.MaxTokens, cache.Options.MaxTokens) = (128, 256);
        Assert.Equal(64, cache.Options.MaxTokens);
    }
}
