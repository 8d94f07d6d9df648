using System.Reflection;
using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Options from a section of the configuration: every member by its name, and errors that name what is wrong.</summary>
public sealed class BindingTests
{
    // Made of code alone.
    private static readonly string[] OfCode = [nameof(KvCacheOptions.OnForgottenSequence)];

    private static readonly Dictionary<string, (string Name, string Value)[]> Values = new()
    {
        [nameof(KvCacheOptions.Name)] = [("Name", "a")],
        [nameof(KvCacheOptions.Device)] = [("Device", "ilgpu-cpu")],
        [nameof(KvCacheOptions.MaxTokens)] = [("MaxTokens", "77")],
        [nameof(KvCacheOptions.MaxSequenceTokens)] = [("MaxSequenceTokens", "78")],
        [nameof(KvCacheOptions.ExactRollbackTokens)] = [("ExactRollbackTokens", "3")],
        [nameof(KvCacheOptions.MaxSequences)] = [("MaxSequences", "5")],
        [nameof(KvCacheOptions.MaxBatchTokens)] = [("MaxBatchTokens", "6")],
        [nameof(KvCacheOptions.KeyFormat)] = [("KeyFormat", "i8")],
        [nameof(KvCacheOptions.ValueFormat)] = [("ValueFormat", "i8")],
        [nameof(KvCacheOptions.LayerFormats)] = [("LayerFormats:1", "t4/v4")],
        [nameof(KvCacheOptions.EdgeLayers)] = [("EdgeLayers", "1")],
        [nameof(KvCacheOptions.DemotionFormats)] = [("DemotionFormats:0", "i8/i8"), ("DemotionFormats:1", "t2/v2")],
        [nameof(KvCacheOptions.NonFinite)] = [("NonFinite", "keep")],
        [nameof(KvCacheOptions.AttentionPrecision)] = [("AttentionPrecision", "Fast")],
        [nameof(KvCacheOptions.FullPrecision)] = [("FullPrecision", "bf16")],
        [nameof(KvCacheOptions.MemoryBudgetBytes)] = [("MemoryBudgetBytes", "123456789012")],
        [nameof(KvCacheOptions.MemoryBudgetPercent)] = [("MemoryBudgetPercent", "12.5")],
        [nameof(KvCacheOptions.KeyScales)] = [("KeyScales", "none")],
        [nameof(KvCacheOptions.RotationSeed)] = [("RotationSeed", "18446744073709551615")],
        [nameof(KvCacheOptions.Policy)] = [("Policy", "h2o")],
        [nameof(KvCacheOptions.Watermark)] = [("Watermark", "0.5")],
        [nameof(KvCacheOptions.MergePages)] = [("MergePages", "true")],
        [nameof(KvCacheOptions.PlanEvery)] = [("PlanEvery", "9")],
        [nameof(KvCacheOptions.PageStatistics)] = [("PageStatistics", "True")],
        [nameof(KvCacheOptions.ScoreEvery)] = [("ScoreEvery", "2")],
        [nameof(KvCacheOptions.ObservedQueries)] = [("ObservedQueries", "8")],
        [nameof(KvCacheOptions.PrefixReuse)] = [("PrefixReuse", "true")],
        [nameof(KvCacheOptions.PrefixEvents)] = [("PrefixEvents", "true")],
        [nameof(KvCacheOptions.Tiers)] = [("Tiers:0:Bytes", "1048576"), ("Tiers:1:Directory", "DISK"), ("Tiers:1:Bytes", "1048576")],
        [nameof(KvCacheOptions.Backup)] = [("Backup", "WhenReleased")],
        [nameof(KvCacheOptions.EnablePrefetch)] = [("EnablePrefetch", "false")],
        [nameof(KvCacheOptions.PrefetchSize)] = [("PrefetchSize", "4")],
        [nameof(KvCacheOptions.RecomputeTokensPerSecond)] = [("RecomputeTokensPerSecond", "1e3")],
        [nameof(KvCacheOptions.Offload)] = [("Offload:BudgetBytes", "1000"), ("Offload:StagedPages", "7"), ("Offload:SelectedPages", "3")],
        [nameof(KvCacheOptions.SwapBudgetBytes)] = [("SwapBudgetBytes", "0")],
        [nameof(KvCacheOptions.ModelFingerprint)] = [("ModelFingerprint", "llama")],
        [nameof(KvCacheOptions.TenantQuotas)] = [("TenantQuotas:acme:Tokens", "10"), ("TenantQuotas:acme:Bytes", "11"), ("TenantQuotas:b:Tokens", "12")],
        [nameof(KvCacheOptions.MeasureKernels)] = [("MeasureKernels", "true")],
        [nameof(KvCacheOptions.MeasureTenants)] = [("MeasureTenants", "true")],
        [nameof(KvCacheOptions.PoisonPages)] = [("PoisonPages", "true")],
    };

    [Fact]
    public void Every_member_of_the_caches_options_can_be_set_and_its_value_arrives()
    {
        PropertyInfo[] members = typeof(KvCacheOptions).GetProperties(BindingFlags.Public | BindingFlags.Instance);
        Assert.Equal(members.Select(one => one.Name).Except(OfCode).Order(), Values.Keys.Order());
        var plain = new KvCacheOptions();
        foreach (PropertyInfo member in members.Where(one => !OfCode.Contains(one.Name)))
        {
            KvCacheHostOptions bound = Bind(Values[member.Name]);
            object? value = member.GetValue(bound.Cache);
            bool isSet = member.Name switch
            {
                nameof(KvCacheOptions.Tiers) => bound.Tiers.SequenceEqual([new KvTierOptions(1048576), new KvTierOptions(1048576, "DISK")]),
                nameof(KvCacheOptions.KeyScales) => bound.Resolve("x").Options.KeyScales is { IsNone: true },
                nameof(KvCacheOptions.LayerFormats) => bound.Cache.LayerFormats![1] == new KvFormats(PageFormat.T4, PageFormat.V4),
                nameof(KvCacheOptions.DemotionFormats) => bound.Cache.DemotionFormats.SequenceEqual([new(PageFormat.I8, PageFormat.I8), new(PageFormat.T2, PageFormat.V2)]),
                nameof(KvCacheOptions.Policy) => value is H2oPolicy,
                nameof(KvCacheOptions.TenantQuotas) =>
                    bound.Cache.TenantQuotas!.Count == 2 && bound.Cache.TenantQuotas["acme"] == new KvTenantQuota { Tokens = 10, Bytes = 11 },
                nameof(KvCacheOptions.Offload) => bound.Cache.Offload == new KvOffload(1000) { StagedPages = 7, SelectedPages = 3 },
                nameof(KvCacheOptions.RecomputeTokensPerSecond) => value is 1000.0,
                _ => string.Equals(
                    Convert.ToString(value, System.Globalization.CultureInfo.InvariantCulture), Values[member.Name][0].Value, StringComparison.OrdinalIgnoreCase),
            };
            Assert.True(isSet, $"{member.Name}: {value}");
            Assert.False(Equals(value, member.GetValue(plain)) && member.Name is not (nameof(KvCacheOptions.Tiers) or nameof(KvCacheOptions.KeyScales)), member.Name);
        }
    }

    [Fact]
    public void The_models_shape_sessions_and_health_are_bound_too()
    {
        KvCacheHostOptions bound = Bind(
            ("geometry:layers", "32"), ("Geometry:QueryHeads", "16"), ("Geometry:KvHeads", "4"), ("Geometry:FirstKvHead", "4"), ("Geometry:KeyWidth", "128"), ("Geometry:ValueWidth", "64"),
            ("Geometry:PageTokens", "32"), ("Geometry:AttentionScale", "0.5"), ("Geometry:LogitSoftCap", "50"), ("Geometry:Rope:Theta", "500000"), ("Geometry:Rope:Factor", "8"),
            ("Geometry:Rope:Width", "64"), ("Geometry:Rope:LowFrequencyFactor", "1"), ("Geometry:Rope:HighFrequencyFactor", "4"), ("Geometry:Rope:OriginalContext", "8192"),
            ("Sessions:Directory", "where"), ("Sessions:IdleAfter", "00:00:30"), ("DegradedAbove", "0.8"));
        var expected = new KvGeometry(32, 16, new HeadRange(4, 4), 128, 64, 32)
        {
            AttentionScale = 0.5f,
            LogitSoftCap = 50,
            Rope = new KvRope { Theta = 500000, Factor = 8, Width = 64, LowFrequencyFactor = 1, HighFrequencyFactor = 4, OriginalContext = 8192 },
        };
        Assert.Equal(expected, bound.Geometry);
        Assert.Equal(("where", TimeSpan.FromSeconds(30), 0.8), (bound.Sessions.Directory, bound.Sessions.IdleAfter, bound.DegradedAbove));
        Assert.Null(Bind(("Sessions:IdleAfter", "never")).Sessions.IdleAfter);
    }

    [Fact]
    public void Key_scales_are_exponents_in_base64()
    {
        byte[] exponents = [.. Enumerable.Range(0, KvKeyScales.None(Hosts.Tiny).Exponents.Length).Select(i => (byte)(i % 3))];
        KvKeyScales scales = Bind(("KeyScales", Convert.ToBase64String(exponents))).Resolve("x").Options.KeyScales!;
        Assert.Equal(exponents, scales.Exponents.ToArray());
        Assert.Equal("KeyScales", Assert.Throws<KvConfigurationException>(() => Bind(("KeyScales", "AAAA")).Resolve("x")).Setting);
    }

    [Theory]
    [InlineData("MaxTokns", "1", "one of ")]
    [InlineData("MaxTokens", "many", "a whole number")]
    [InlineData("MaxTokens", "2.5", "a whole number")]
    [InlineData("MaxTokens", "99999999999", "a whole number")]
    [InlineData("MaxTokens:Least", "1", "a value")]
    [InlineData("SwapBudgetBytes", "1 GB", "a whole number")]
    [InlineData("RotationSeed", "-1", "a whole number of 0 or more")]
    [InlineData("Watermark", "0,9", "a number")]
    [InlineData("PrefixReuse", "yes", "true or false")]
    [InlineData("KeyFormat", "i9", "a page format, as i8")]
    [InlineData("NonFinite", "1", "Reject or Keep")]
    [InlineData("Backup", "never", "WhenSealed or WhenReleased")]
    [InlineData("Policy", "best", "a policy: none, window")]
    [InlineData("LayerFormats:first", "t4/v4", "a layer's number as its name")]
    [InlineData("LayerFormats:1", "t4", "formats of keys and values, as t4/v4")]
    [InlineData("TenantQuotas:acme:Token", "1", "one of Bytes, Tokens")]
    [InlineData("TenantQuotas:acme", "1", "")]
    [InlineData("TenantQuotas:acme:Tokens", "-1", "0 or more bytes and tokens")]
    [InlineData("Offload:Budget", "1", "one of BudgetBytes, SelectedPages, StagedPages")]
    [InlineData("Tiers:0:Size", "1", "one of Bytes, Directory")]
    [InlineData("Geometry:Layers", "1", "Layers, QueryHeads, KvHeads and KeyWidth")]
    [InlineData("Geometry:Heads", "1", "one of AttentionScale")]
    [InlineData("Sessions:IdleAfter", "soon", "a time, as 00:05:00")]
    public void What_cannot_be_read_is_E003_with_its_path(string name, string value, string expected)
    {
        if (expected.Length == 0)
        {
            // A quota without a number limits nothing.
            Assert.Equal(KvTenantQuota.None, Bind((name, value)).Cache.TenantQuotas!["acme"]);
            return;
        }

        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => Bind((name, value)));
        Assert.Equal("E003", error.Code);
        Assert.StartsWith(name.Split(':')[0], error.Setting, StringComparison.Ordinal);
        Assert.StartsWith(expected, error.Expected, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Geometry:KeyWidth", "7")]
    [InlineData("Geometry:Rope:Theta", "-1")]
    public void A_shape_that_no_cache_takes_is_E003(string name, string value)
    {
        (string, string)[] whole = [("Geometry:Layers", "1"), ("Geometry:QueryHeads", "1"), ("Geometry:KvHeads", "1"), ("Geometry:KeyWidth", "8")];
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => Bind([.. whole.Where(one => one.Item1 != name), (name, value)]));
        Assert.StartsWith("Geometry", error.Setting, StringComparison.Ordinal);
    }

    private static KvCacheHostOptions Bind(params (string Name, string Value)[] values)
    {
        IConfigurationRoot section = Hosts.Section(values);
        var options = new KvCacheHostOptions { Geometry = Hosts.Tiny };
        new SectionBinding("x", section).Configure("x", options);
        return options;
    }
}
