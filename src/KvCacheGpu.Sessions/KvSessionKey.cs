namespace KvCacheGpu;

/// <summary>Which session of an <see cref="UltraAdaptiveKvCacheEngine"/>. The default value is the one session that hosts without sessions use.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Id">The host's name for it, as <see cref="KvSequence.Name"/> takes it; null and "" are the default session.</param>
/// <param name="Tenant">Its tenant; named if <see cref="KvTenancyOptions.MultiTenant"/> is on, else null.</param>
public readonly record struct KvSessionKey(string? Id, string? Tenant = null)
{
    /// <summary>The host's name for it; null and "" are the default session.</summary>
    /// <exception cref="ArgumentException">Longer than 64 KiB of UTF-8, or half of a surrogate pair in it, which UTF-8 cannot say.</exception>
    public string? Id { get; init => field = SnapshotLimits.Checked(value, nameof(Id)); } = SnapshotLimits.Checked(Id, nameof(Id));

    /// <summary>Its tenant.</summary>
    /// <exception cref="ArgumentException">As for <see cref="Id"/>.</exception>
    public string? Tenant { get; init => field = SnapshotLimits.Checked(value, nameof(Tenant)); } = SnapshotLimits.Checked(Tenant, nameof(Tenant));

    /// <summary>A session of no tenant.</summary>
    public static implicit operator KvSessionKey(string id) => FromString(id);

    /// <summary>A session of no tenant.</summary>
    public static KvSessionKey FromString(string id) => new(id);

    /// <summary>"id", or "tenant/id".</summary>
    public override string ToString() => Tenant is null ? Id ?? string.Empty : $"{Tenant}/{Id}";
}
