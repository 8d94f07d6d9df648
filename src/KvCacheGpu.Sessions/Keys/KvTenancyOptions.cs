namespace KvCacheGpu;

/// <summary>Tenants of sessions.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvTenancyOptions
{
    /// <summary>True if every session belongs to a tenant, who must be named; false if none may be named (<c>multi_tenant</c>). The default value is false.</summary>
    public bool MultiTenant { get; set; }

    /// <summary>
    /// True if the tenant is part of every session's key, and pages are zeroed between tenants; false if tenants share the sessions of one id
    /// (<c>tenant_isolation</c>). The default value is true.
    /// </summary>
    public bool TenantIsolation { get; set; } = true;

    /// <summary>
    /// Tokens that the sessions of one tenant may hold together, at least 1 (<c>tenant_max_tokens</c>). The default value is null: no quota. A quota in bytes,
    /// or for one tenant alone, is set on the engine's cache (<see cref="KvCacheTenants.SetTenantQuota"/>), which knows tenants where they are isolated.
    /// </summary>
    public int? TenantMaxTokens { get; set; }
}
