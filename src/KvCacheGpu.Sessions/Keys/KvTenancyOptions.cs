namespace KvCacheGpu;

/// <summary>Whose sessions are whose.</summary>
public sealed record KvTenancyOptions
{
    /// <summary>Whether every session belongs to a tenant, who must be named (<c>multi_tenant</c>). The default value is false: none may be named.</summary>
    public bool MultiTenant { get; set; }

    /// <summary>
    /// Whether the tenant is part of every session's key (<c>tenant_isolation</c>), and pages are zeroed between tenants. The default value is
    /// true; without, tenants share the sessions of one id.
    /// </summary>
    public bool TenantIsolation { get; set; } = true;

    /// <summary>Tokens that the sessions of one tenant may hold together, at least 1 (<c>tenant_max_tokens</c>). The default value is null: no quota.</summary>
    public int? TenantMaxTokens { get; set; }
}
