using Microsoft.Extensions.DependencyInjection;

namespace KvCacheGpu.Hosting;

/// <summary>Adds to a cache that a host was given.</summary>
/// <remarks>Thread safety: it is used by one thread, as its services are.</remarks>
public sealed class KvCacheBuilder
{
    internal KvCacheBuilder(IServiceCollection services, string name) => (Services, Name) = (services, name);

    /// <summary>The host's services.</summary>
    public IServiceCollection Services { get; }

    /// <summary>The cache's name; empty for the one without.</summary>
    public string Name { get; }

    /// <summary>Adds a lower tier that the host makes, as one on a server; it comes before those of <see cref="KvCacheHostOptions.Tiers"/>. It is disposed with the host's services, after the cache.</summary>
    /// <param name="open">Opens the tier.</param>
    /// <returns>The same builder.</returns>
    public KvCacheBuilder AddTier(Func<IServiceProvider, KvTier> open)
    {
        ArgumentNullException.ThrowIfNull(open);
        Services.AddKeyedSingleton(Name, (provider, _) => open(provider));
        return this;
    }

    /// <summary>Adds a health check of the cache: see <see cref="KvCacheHealthCheck"/>.</summary>
    /// <param name="name">The check's name. The default value is null: "kvcache", or "kvcache-NAME".</param>
    /// <param name="tags">The check's tags. The default value is null: none.</param>
    /// <returns>The same builder.</returns>
    public KvCacheBuilder AddHealthCheck(string? name = null, IEnumerable<string>? tags = null)
    {
        Services.AddHealthChecks().AddKvCacheHealthCheck(Name, name, tags);
        return this;
    }
}
