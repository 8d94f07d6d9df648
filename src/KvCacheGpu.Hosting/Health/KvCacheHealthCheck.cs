using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace KvCacheGpu.Hosting;

/// <summary>
/// The health of a cache. Unhealthy if it was disposed, or its device does not answer; degraded if more of its room for pages is used than <see cref="KvCacheHostOptions.DegradedAbove"/>, or a lower tier is left alone since it failed;
/// else healthy. The data are its numbers.
/// </summary>
/// <remarks>Thread safety: it may be asked by several threads at once.</remarks>
public sealed class KvCacheHealthCheck : IHealthCheck
{
    private readonly KvCache _cache;
    private readonly double _degradedAbove;

    /// <summary>A check of a cache.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="degradedAbove">Part of the room for pages, above 0 and at most 1, above which it reports "degraded".</param>
    public KvCacheHealthCheck(KvCache cache, double degradedAbove = 0.95)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(degradedAbove);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(degradedAbove, 1);
        (_cache, _degradedAbove) = (cache, degradedAbove);
    }

    /// <inheritdoc/>
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) => Task.Run(Check, cancellationToken);

    private HealthCheckResult Check()
    {
        var data = new Dictionary<string, object>(StringComparer.Ordinal) { ["device"] = _cache.Device.Id, ["kernels"] = _cache.TierName };
        try
        {
            _cache.CheckDevice();
            long used = _cache.AllocatedBytes - _cache.CachedBytes;
            double part = Math.Clamp(1 - ((double)(_cache.BudgetBytes - used) / _cache.ReservedBytes), 0, 1);
            (data["used_bytes"], data["cached_bytes"], data["budget_bytes"], data["used_part"]) = (used, _cache.CachedBytes, _cache.BudgetBytes, part);
            (data["free_tokens"], data["sequences"]) = (_cache.FreeTokens, _cache.GetTenantUsages().Sum(tenant => tenant.Sequences));
            data["swapped_bytes"] = _cache.GetSwappedBytes();
            string[] away = [.. _cache.Options.Tiers.Where(tier => !tier.IsAvailable).Select(tier => tier.Name)];
            foreach (IGrouping<string, KvTier> tiers in _cache.Options.Tiers.GroupBy(tier => tier.Name))
            {
                data[$"tier_{tiers.Key}_errors"] = tiers.Sum(tier => tier.Counts.Errors);
            }

            return away.Length > 0 ? HealthCheckResult.Degraded($"left alone since they failed: {string.Join(", ", away)}", data: data)
                : part > _degradedAbove ? HealthCheckResult.Degraded(FormattableString.Invariant($"{part:p0} of the room for pages is used"), data: data)
                : HealthCheckResult.Healthy(data: data);
        }
#pragma warning disable CA1031 // Whatever a driver throws of a device that is gone.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return HealthCheckResult.Unhealthy(e is ObjectDisposedException ? "the cache, or its accelerator, was disposed" : "the device does not answer", e, data);
        }
    }
}

/// <summary>Adds health checks of caches.</summary>
public static class KvCacheHealthChecks
{
    /// <summary>Adds a health check of a cache.</summary>
    /// <param name="builder">The host's health checks.</param>
    /// <param name="cache">The cache's name. The default value is empty: the one without.</param>
    /// <param name="name">The check's name. The default value is null: "kvcache", or "kvcache-NAME".</param>
    /// <param name="tags">The check's tags. The default value is null: none.</param>
    /// <returns>The same builder.</returns>
    public static IHealthChecksBuilder AddKvCacheHealthCheck(this IHealthChecksBuilder builder, string cache = "", string? name = null, IEnumerable<string>? tags = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(cache);
        return builder.Add(new HealthCheckRegistration(
            name ?? (cache.Length > 0 ? $"kvcache-{cache}" : "kvcache"),
            provider =>
            {
                HostedCache hosted = provider.GetRequiredKeyedService<HostedCache>(cache);
                return new KvCacheHealthCheck(hosted.Cache, hosted.Options.DegradedAbove);
            },
            failureStatus: null,
            tags));
    }
}
