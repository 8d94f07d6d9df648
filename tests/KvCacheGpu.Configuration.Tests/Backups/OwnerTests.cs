using KvCacheGpu.TestKit;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>An administrator's migration must not take a service's files away from it.</summary>
public class OwnerTests
{
    [Fact]
    public void Files_stay_their_owners()
    {
        MemoryDisk disk = MemoryProject.Disk("kv_cache_size: 7\n", "KV_CACHE_SIZE=7\n");
        FileOwner service = new(1000, 1001);
        disk.Find(MemoryProject.Root)!.Find(MemoryProject.Env)!.Owner = service;
        MemoryProject project = new(disk);
        Assert.Equal(2, project.Manager.MigrateToNewFormat().Files.Count);
        DiskFile env = disk.Find(MemoryProject.Root)!.Find(MemoryProject.Env)!;
        Assert.Equal((service, 0x1A0), (env.Owner, env.Mode));
        Assert.Equal(default, disk.Find(MemoryProject.Root + "/config")!.Find("kv_cache.yaml")!.Owner);

        project.Manager.RestoreFromBackup(project.Manager.ListBackups()[0]);
        Assert.Equal(service, disk.Find(MemoryProject.Root)!.Find(MemoryProject.Env)!.Owner);
    }

    [Fact]
    public void Root_gives_them_back_on_a_real_disk()
    {
        using DiskProject project = new();
        project.Write(".env", "KV_CACHE_SIZE=7\n");
        using OpenFile folder = new(LibcFiles.Instance, LibcFiles.Instance.OpenDirectory(project.Root));
        FileOwner given = Change(folder, new FileOwner(65534, 65534));
        Assert.True(project.Manager().MigrateToNewFormat().Files.Count == 1);
        Assert.Equal(given, Owner(folder));
    }

    // Only root may give files away; the file of another user stays the tester's own, and so must the migrated one.
    private static FileOwner Change(OpenFile folder, FileOwner owner)
    {
        using OpenFile file = folder.Open(".env", FileUse.Read);
        folder.Files.SetOwner(file.Descriptor, owner);
        return folder.Files.Owner(file.Descriptor);
    }

    private static FileOwner Owner(OpenFile folder)
    {
        using OpenFile file = folder.Open(".env", FileUse.Read);
        return folder.Files.Owner(file.Descriptor);
    }
}
