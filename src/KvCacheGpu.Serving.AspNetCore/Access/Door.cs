using System.Globalization;
using System.Threading.RateLimiting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Says who sent a request, and whether it may go on. Everything that an endpoint throws becomes an answer here.</summary>
internal sealed class Door(KvServerOptions options, ILogger<KvServer> logger) : IDisposable
{
    private const string Scheme = "Bearer ";
    private const int ClientHasGone = 499;

    private readonly PartitionedRateLimiter<string>? _rate = options.RequestsPerMinute is { } perMinute ? Limiter(perMinute) : null;

    /// <summary>An endpoint that asks for a key, where there are any.</summary>
    /// <param name="inner">The endpoint.</param>
    /// <param name="isCounted">True if the requests of a minute are limited.</param>
    public RequestDelegate Keyed(Func<HttpContext, Caller, Task> inner, bool isCounted = false) => Open(async context =>
    {
        Caller caller = Identify(context.Request);
        if (isCounted)
        {
            Count(caller.Tenant ?? string.Empty);
        }

        await inner(context, caller).ConfigureAwait(false);
    });

    /// <summary>An endpoint that asks for none.</summary>
    public RequestDelegate Open(RequestDelegate inner) => async context =>
    {
        try
        {
            await inner(context).ConfigureAwait(false);
        }
        catch (ApiError error)
        {
            await JsonAnswer.WriteAsync(context, error).ConfigureAwait(false);
        }
        catch (Exception) when (context.RequestAborted.IsCancellationRequested)
        {
            // Nobody reads it; logs of requests show the status.
            if (!context.Response.HasStarted)
            {
                context.Response.StatusCode = ClientHasGone;
            }
        }
        catch (Exception failure)
        {
            logger.RequestFailed(failure);
            await JsonAnswer.WriteAsync(context, ApiError.Failed("failed")).ConfigureAwait(false);
        }
    };

    /// <summary>Frees the counters.</summary>
    public void Dispose() => _rate?.Dispose();

    private Caller Identify(HttpRequest request)
    {
        if (options.ApiKeys is not { } keys)
        {
            return new Caller(null, IsAdmin: true);
        }

        string header = request.Headers.Authorization.ToString();
        if (!header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase))
        {
            throw ApiError.NoKey(isMissing: true);
        }

        return keys.TryFind(header[Scheme.Length..].Trim(), out string? tenant) ? new Caller(tenant, tenant == options.AdminTenant) : throw ApiError.NoKey(isMissing: false);
    }

    private void Count(string tenant)
    {
        using RateLimitLease? lease = _rate?.AttemptAcquire(tenant);
        if (lease is { IsAcquired: false })
        {
            TimeSpan later = lease.TryGetMetadata(MetadataName.RetryAfter, out TimeSpan known) ? known : TimeSpan.FromSeconds(1);
            string limit = options.RequestsPerMinute!.Value.ToString(CultureInfo.InvariantCulture);
            throw ApiError.TooMany($"expected at most {limit} requests in a minute", "rate_limit_exceeded", later);
        }
    }

    private static PartitionedRateLimiter<string> Limiter(int perMinute) => PartitionedRateLimiter.Create<string, string>(tenant => RateLimitPartition.GetTokenBucketLimiter(
        tenant, _ => new TokenBucketRateLimiterOptions { TokenLimit = perMinute, TokensPerPeriod = 1, ReplenishmentPeriod = TimeSpan.FromMinutes(1) / perMinute, QueueLimit = 0 }));
}
