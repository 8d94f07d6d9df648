namespace KvCacheGpu;

/// <summary>Name and tenant of a snapshot: any text that UTF-8 can say, since files are named by its SHA-256. Null and "" are two different tenants.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Name">Its name, 1 byte to 64 KiB of UTF-8.</param>
/// <param name="Tenant">The tenant that it belongs to, or null.</param>
public readonly record struct SnapshotName(string Name, string? Tenant = null)
{
    /// <summary>A snapshot of no tenant.</summary>
    public static implicit operator SnapshotName(string name) => FromString(name);

    /// <summary>A snapshot of no tenant.</summary>
    public static SnapshotName FromString(string name) => new(name);

    /// <summary>"name", or "tenant/name".</summary>
    public override string ToString() => Tenant is null ? Name : $"{Tenant}/{Name}";

    /// <summary>Throws if no snapshot can have this name.</summary>
    /// <exception cref="ArgumentException">An empty name, or a name or tenant that is too long or that UTF-8 cannot say.</exception>
    public void Check()
    {
        ArgumentException.ThrowIfNullOrEmpty(Name, "name");
        SnapshotLimits.Checked(Name, "name");
        SnapshotLimits.Checked(Tenant, "tenant");
    }
}
