using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace KvCacheGpu.Hosting;

/// <summary>A cache that a host was given by name: makes it, with the lower tiers that it opens, follows the options, and disposes all.</summary>
internal sealed class HostedCache : IDisposable
{
    private readonly string _name;
    private readonly ILogger _log;
    private readonly Stack<IDisposable> _owned = new();
    private readonly HashSet<string> _limited = new(StringComparer.Ordinal);

    public HostedCache(IServiceProvider services, string name)
    {
        _name = name;
        _log = Log.Of(services);
        IOptionsMonitor<KvCacheHostOptions> monitor = services.GetRequiredService<IOptionsMonitor<KvCacheHostOptions>>();
        Options = monitor.Get(name);
        (KvGeometry geometry, KvCacheOptions options) = Options.Resolve(name);
        options.OnForgottenSequence ??= gone => Log.Forgotten(_log, Shown, gone.Name, gone.Length);
        try
        {
            options.Tiers = [.. options.Tiers, .. services.GetKeyedServices<KvTier>(name), .. Options.Tiers.Select(Open)];
            Cache = new KvCache(geometry, options);
            _owned.Push(Cache);
            _limited.UnionWith(options.TenantQuotas?.Keys ?? []);
            IOptionsFactory<KvCacheHostOptions> factory = services.GetRequiredService<IOptionsFactory<KvCacheHostOptions>>();
            foreach (SectionBinding binding in services.GetKeyedServices<SectionBinding>(name))
            {
                _owned.Push(binding.Watch(() => IsUsable(factory)));
            }

            if (monitor.OnChange((changed, of) => Follow(changed, of)) is { } watch)
            {
                _owned.Push(watch);
            }
        }
        catch
        {
            Dispose();
            throw;
        }

        Log.Made(_log, Shown, Cache.Device.Id, Cache.BudgetBytes, Cache.TierName);
    }

    /// <summary>The options that it was made with.</summary>
    public KvCacheHostOptions Options { get; }

    /// <summary>The cache.</summary>
    public KvCache Cache { get; }

    /// <summary>The name as messages have it.</summary>
    public string Shown => _name.Length > 0 ? _name : "default";

    public void Dispose()
    {
        while (_owned.TryPop(out IDisposable? one))
        {
            one.Dispose();
        }
    }

    private KvTier Open(KvTierOptions options)
    {
        KvTier tier = options.Open();
        _owned.Push((IDisposable)tier);
        return tier;
    }

    private bool IsUsable(IOptionsFactory<KvCacheHostOptions> factory)
    {
        try
        {
            factory.Create(_name);
            return true;
        }
#pragma warning disable CA1031 // Whatever the host's own code throws too: it must not come out of the thread that watches a file.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Log.ChangeRefused(_log, e, Shown);
            return false;
        }
    }

    // A cache lives with the options that it was made with, but for these.
    private void Follow(KvCacheHostOptions changed, string? of)
    {
        if (of != _name)
        {
            return;
        }

        try
        {
            Cache.Watermark = changed.Cache.Watermark;
            IReadOnlyDictionary<string, KvTenantQuota> quotas = changed.Cache.TenantQuotas ?? new Dictionary<string, KvTenantQuota>();
            lock (_limited)
            {
                foreach (string tenant in _limited.Except(quotas.Keys).ToArray())
                {
                    Cache.SetTenantQuota(tenant, KvTenantQuota.None);
                    _limited.Remove(tenant);
                }

                foreach ((string tenant, KvTenantQuota quota) in quotas)
                {
                    Cache.SetTenantQuota(tenant, quota);
                    _limited.Add(tenant);
                }
            }

            Log.Changed(_log, Shown);
        }
        catch (ObjectDisposedException)
        {
            // The host ends.
        }
    }
}
