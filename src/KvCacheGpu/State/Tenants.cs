namespace KvCacheGpu;

/// <summary>A tenant: the number that its pages are known by, and what it may hold. Changed inside of the pool's gate.</summary>
internal sealed class TenantAccount(string? name, int number)
{
    /// <summary>Its name, or null.</summary>
    public string? Name => name;

    /// <summary>Its number, above 0.</summary>
    public int Number => number;

    /// <summary>What it may hold; null if that is not limited.</summary>
    public KvTenantQuota? Quota { get; set; }

    /// <summary>Its sequences that live, forks and those that are being made counted.</summary>
    public int Sequences { get; set; }

    /// <summary>Bytes that the call at hand asks for, over all of the tenant's sequences in it.</summary>
    public long AskedBytes { get; private set; }

    /// <summary>Tokens that the call at hand asks for.</summary>
    public long AskedTokens { get; private set; }

    /// <summary>Adds to what the call at hand asks for.</summary>
    public void Ask(long bytes, long tokens) => (AskedBytes, AskedTokens) = (AskedBytes + bytes, AskedTokens + tokens);

    /// <summary>Begins another call.</summary>
    public void AskNothing() => (AskedBytes, AskedTokens) = (0, 0);
}

/// <summary>The tenants whose pages lie in a cache, and those that have a quota. The caller is inside of the pool's gate.</summary>
internal sealed class Tenants
{
    private const int NoTenant = 1;
    private const int MostKnown = 1 << 16;

    private readonly Dictionary<string, TenantAccount> _named = new(StringComparer.Ordinal);
    private readonly TenantAccount _nameless = new(null, NoTenant);
    private volatile bool _hasQuotas;
    private int _last = NoTenant;

    /// <param name="quotas">Quotas by tenant, or null.</param>
    public Tenants(IReadOnlyDictionary<string, KvTenantQuota>? quotas)
    {
        foreach ((string name, KvTenantQuota quota) in quotas ?? new Dictionary<string, KvTenantQuota>())
        {
            SetQuota(name, quota);
        }
    }

    /// <summary>True if any tenant has, or had, a quota: only then is it worth asking.</summary>
    public bool HasQuotas => _hasQuotas;

    /// <summary>The tenants that live: those with a sequence.</summary>
    public IEnumerable<TenantAccount> Live => _named.Values.Prepend(_nameless).Where(account => account.Sequences > 0);

    /// <summary>The tenant's account; null if nothing is known of the tenant.</summary>
    public TenantAccount? Find(string? tenant) => tenant is null ? _nameless : _named.GetValueOrDefault(tenant);

    /// <summary>The tenant's account, made if there is none.</summary>
    /// <remarks>A tenant that was forgotten gets a new number, so that its old pages are cleared once too often, never once too seldom.</remarks>
    public TenantAccount Of(string? tenant)
    {
        if (tenant is null)
        {
            return _nameless;
        }

        if (!_named.TryGetValue(tenant, out TenantAccount? account))
        {
            if (_named.Count >= MostKnown)
            {
                foreach (TenantAccount idle in _named.Values.Where(known => known.Sequences == 0 && known.Quota is null).ToArray())
                {
                    _named.Remove(idle.Name!);
                }
            }

            _named[tenant] = account = new TenantAccount(tenant, checked(++_last));
        }

        return account;
    }

    /// <summary>Limits what a tenant may hold, or no longer limits it.</summary>
    public void SetQuota(string? tenant, KvTenantQuota quota)
    {
        bool limits = quota.Bytes is not null || quota.Tokens is not null;
        _hasQuotas |= limits;
        Of(tenant).Quota = limits ? quota : null;
    }
}
