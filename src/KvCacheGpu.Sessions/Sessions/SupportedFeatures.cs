namespace KvCacheGpu;

/// <summary>What this build can do on a cache's device, by names.</summary>
internal static class SupportedFeatures
{
    /// <summary>In ordinal order: "device:cpu", "format:t4/v4", "strategy:lru".</summary>
    public static IReadOnlyList<string> Of(KvCache cache)
    {
        KvGeometry g = cache.Geometry;
        IEnumerable<string> formats =
            from key in Enum.GetValues<PageFormat>()
            from value in Enum.GetValues<PageFormat>()
            where PageFormats.IsPair(key, value) && key.Takes(g.KeyWidth) && value.Takes(g.ValueWidth)
            select $"format:{new KvFormats(key, value)}";
        IEnumerable<string> features =
        [
            "paging",
            "sessions",
            "tenants",
            .. OperatingSystem.IsLinux() || OperatingSystem.IsWindows() ? ["persistence"] : Array.Empty<string>(),
            $"device:{cache.Device.Id}",
            $"kernels:{cache.TierName}",
            .. formats,
            .. Enum.GetNames<KvCacheStrategy>().Select(name => $"strategy:{name.ToLowerInvariant()}"),
            .. KvPolicies.Names.Where(IsUsable).Select(name => $"policy:{name}"),
        ];
        return [.. features.Order(StringComparer.Ordinal)];
    }

    // Sessions are not given a rope, without which no policy foresees queries.
    private static bool IsUsable(string name) =>
        KvPolicies.TryParse(name, out KvPolicy? policy) && policy is not null && (policy.Needs & KvStatistics.FutureQueries) == 0;
}
