namespace KvCacheGpu.Hosting;

/// <summary>
/// How a host has a cache: the model's shape, the cache's own options, lower tiers, sessions, health. Bound from a section of the configuration, where the members of <see cref="KvCacheOptions"/> stand beside those of
/// this class, and checked when the host starts.
/// </summary>
/// <remarks>Thread safety: it is set up by one thread, and only read once the cache is there.</remarks>
public sealed class KvCacheHostOptions
{
    /// <summary>The model's shape. It must be set.</summary>
    public KvGeometry? Geometry { get; set; }

    /// <summary>The cache's own options. <see cref="KvCacheOptions.Name"/> is the name under which the cache was added, unless it is set.</summary>
    public KvCacheOptions Cache { get; set; } = new();

    /// <summary>
    /// Lower tiers that are opened with the cache and disposed after it, the nearest first; behind those of <see cref="KvCacheOptions.Tiers"/>, which stay their makers'. The default value is empty.
    /// </summary>
    public IList<KvTierOptions> Tiers { get; } = [];

    /// <summary>How sessions are kept (<see cref="IKvSessions"/>).</summary>
    public KvSessionsOptions Sessions { get; } = new();

    /// <summary>
    /// Part of the room for pages, above 0 and at most 1, above which the health check reports "degraded"; pages that only wait for prefixes to be reused do not count. The default value is 0.95.
    /// </summary>
    public double DegradedAbove { get; set; } = 0.95;

    /// <summary>Key scales as the configuration wrote them: they need the geometry, which may be set later.</summary>
    internal string? KeyScales { get; set; }

    /// <summary>The options that a cache is made with, apart from lower tiers that are to be opened.</summary>
    /// <param name="name">The name under which the cache was added; empty for the one without.</param>
    /// <exception cref="KvConfigurationException">E003: there is no geometry, or the key scales do not fit it.</exception>
    internal (KvGeometry Geometry, KvCacheOptions Options) Resolve(string name)
    {
        KvGeometry geometry = Geometry ?? throw new KvConfigurationException(nameof(Geometry), "the model's shape", "none");
        KvCacheOptions options = Cache.Copy();
        options.Name ??= name.Length > 0 ? name : null;
        options.KeyScales ??= KeyScalesText.Parse(KeyScales, geometry);
        return (geometry, options);
    }
}
