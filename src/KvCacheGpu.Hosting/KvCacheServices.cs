using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace KvCacheGpu.Hosting;

/// <summary>Adds caches to the services of a host.</summary>
public static class KvCacheServices
{
    /// <summary>Adds the one cache of a host: <see cref="KvCache"/> and <see cref="IKvSessions"/> as singletons. It is made when the host starts, and disposed with the host's services.</summary>
    /// <param name="services">The host's services.</param>
    /// <param name="configure">Sets its options.</param>
    /// <returns>What adds to the cache.</returns>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCacheServices.AddKvCache']/*"/>
    public static KvCacheBuilder AddKvCache(this IServiceCollection services, Action<KvCacheHostOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        return Add(services, Options.DefaultName, null, configure);
    }

    /// <summary>The same, its options bound to a section of the configuration.</summary>
    /// <param name="services">The host's services.</param>
    /// <param name="section">The section: members of <see cref="KvCacheOptions"/> and <see cref="KvCacheHostOptions"/> by their names.</param>
    /// <param name="configure">Sets more of them, after the section. The default value is null.</param>
    /// <returns>What adds to the cache.</returns>
    public static KvCacheBuilder AddKvCache(this IServiceCollection services, IConfiguration section, Action<KvCacheHostOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(section);
        return Add(services, Options.DefaultName, section, configure);
    }

    /// <summary>Adds a cache by name: <see cref="KvCache"/> and <see cref="IKvSessions"/> as keyed singletons (<c>[FromKeyedServices("chat")] KvCache cache</c>).</summary>
    /// <param name="services">The host's services.</param>
    /// <param name="name">Its name: the key of its services, and what its metrics and logs call it.</param>
    /// <param name="configure">Sets its options.</param>
    /// <returns>What adds to the cache.</returns>
    public static KvCacheBuilder AddKvCache(this IServiceCollection services, string name, Action<KvCacheHostOptions> configure)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(configure);
        return Add(services, name, null, configure);
    }

    /// <summary>The same, its options bound to a section of the configuration.</summary>
    /// <param name="services">The host's services.</param>
    /// <param name="name">Its name.</param>
    /// <param name="section">The section: members of <see cref="KvCacheOptions"/> and <see cref="KvCacheHostOptions"/> by their names.</param>
    /// <param name="configure">Sets more of them, after the section. The default value is null.</param>
    /// <returns>What adds to the cache.</returns>
    public static KvCacheBuilder AddKvCache(this IServiceCollection services, string name, IConfiguration section, Action<KvCacheHostOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(section);
        return Add(services, name, section, configure);
    }

    private static KvCacheBuilder Add(IServiceCollection services, string name, IConfiguration? section, Action<KvCacheHostOptions>? configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        if (services.Any(one => one.IsKeyedService && one.ServiceType == typeof(HostedCache) && name.Equals(one.ServiceKey)))
        {
            throw new ArgumentException($"expected each cache once, got {(name.Length > 0 ? $"'{name}'" : "the one without a name")} twice", nameof(name));
        }

        OptionsBuilder<KvCacheHostOptions> options = services.AddOptions<KvCacheHostOptions>(name);
        if (section is not null)
        {
            var binding = new SectionBinding(name, section);
            services.AddSingleton<IConfigureOptions<KvCacheHostOptions>>(binding);
            services.AddSingleton<IOptionsChangeTokenSource<KvCacheHostOptions>>(binding);
            services.AddKeyedSingleton(name, binding);
        }

        if (configure is not null)
        {
            options.Configure(configure);
        }

        services.AddSingleton<IValidateOptions<KvCacheHostOptions>>(new HostOptionsCheck(name));
        options.ValidateOnStart();
        services.TryAddSingleton(TimeProvider.System);
        services.AddKeyedSingleton(name, (provider, _) => new HostedCache(provider, name));
        services.AddKeyedSingleton(name, (provider, _) => provider.GetRequiredKeyedService<HostedCache>(name).Cache);
        services.AddKeyedSingleton(name, (provider, _) => new SessionKeeper(provider, name));
        services.AddKeyedSingleton<IKvSessions>(name, (provider, _) => provider.GetRequiredKeyedService<SessionKeeper>(name));
        services.AddSingleton<IHostedService>(provider => new CacheLifetime(provider, name));
        if (name.Length == 0)
        {
            services.AddSingleton(provider => provider.GetRequiredKeyedService<KvCache>(name));
            services.AddSingleton(provider => provider.GetRequiredKeyedService<IKvSessions>(name));
        }

        return new KvCacheBuilder(services, name);
    }
}
