using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>A store on a disk in memory, on this thread, whose operations can fail.</summary>
internal sealed class MemoryStore
{
    public const string Path = "/store";

    public MemoryStore(MemoryDisk disk, SnapshotOptions? options = null)
    {
        Files = new FaultFiles(disk);
        Store = new SnapshotStore(Path, options ?? SnapshotSample.Inline, Files);
    }

    public FaultFiles Files { get; }

    public SnapshotStore Store { get; }

    public SnapshotInfo Save(SnapshotName name, SnapshotSample sample)
    {
        Assert.Null(ContentCheck.FirstFlaw(sample.Content));
        return Store.Save(name, sample.Content, sample.Read);
    }

    /// <summary>The fingerprint of what loads, or null where there is no snapshot.</summary>
    public string? Load(SnapshotName name) => LoadWithNotice(name)?.Fingerprint;

    public (string Fingerprint, string? Notice)? LoadWithNotice(SnapshotName name)
    {
        var target = new KeptTarget();
        try
        {
            SnapshotInfo info = Store.Load(name, target, null, default);
            return (target.Fingerprint, info.Notice);
        }
        catch (KvSnapshotNotFoundException)
        {
            return null;
        }
    }
}
