using System.Security.Cryptography;

namespace KvCacheGpu;

/// <summary>What a snapshot is called, and whose it is. Any text that UTF-8 can say: files are named by its SHA-256. Null and "" are two tenants.</summary>
/// <param name="Name">Its name, 1 byte to 64 KiB of UTF-8.</param>
/// <param name="Tenant">Whose it is, or null.</param>
public readonly record struct SnapshotName(string Name, string? Tenant = null)
{
    /// <summary>A snapshot of no tenant.</summary>
    public static implicit operator SnapshotName(string name) => FromString(name);

    /// <summary>A snapshot of no tenant.</summary>
    public static SnapshotName FromString(string name) => new(name);

    /// <summary>"name", or "tenant/name".</summary>
    public override string ToString() => Tenant is null ? Name : $"{Tenant}/{Name}";

    /// <summary>SHA-256 over: "KvCacheGpu snapshot name" | 0 or 1 for a tenant | its UTF-8 bytes, int32 | its UTF-8 | the name's UTF-8.</summary>
    internal byte[] ToHash()
    {
        var writer = new SectionWriter();
        writer.Bytes("KvCacheGpu snapshot name"u8);
        writer.Text(Tenant);
        writer.Bytes(KvText.Strict.GetBytes(Name));
        return SHA256.HashData(writer.Written);
    }

    internal void Check()
    {
        ArgumentException.ThrowIfNullOrEmpty(Name, "name");
        SnapshotLimits.Checked(Name, "name");
        SnapshotLimits.Checked(Tenant, "tenant");
    }
}
