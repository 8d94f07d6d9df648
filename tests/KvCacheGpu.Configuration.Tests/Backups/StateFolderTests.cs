using System.Runtime.Versioning;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Configuration.Tests.Backups;

/// <summary>Journals and backups are believed only where nobody else can have put them: a planted journal would be carried out.</summary>
[SupportedOSPlatform("linux")]
public sealed class StateFolderTests
{
    [Theory]
    [InlineData(".kvcache")]
    [InlineData(".kvcache/backups")]
    public void A_folder_to_which_everyone_writes_is_refused(string folder)
    {
        using DiskProject project = new();
        project.Write("config/kv_cache.yaml", "kv_cache:\n  max_tokens: 78\n");
        KvConfigBackup backup = project.Manager().BackupCurrentConfig();
        File.SetUnixFileMode(project.PathOf(folder), (UnixFileMode)Convert.ToInt32("737", 8));
        Assert.Contains("mode 737", Assert.Throws<KvConfigurationException>(() => project.Manager().MigrateToNewFormat()).Message, StringComparison.Ordinal);
        Assert.Throws<KvConfigurationException>(() => project.Manager().RestoreFromBackup(backup));
        Assert.Equal("kv_cache:\n  max_tokens: 78\n", project.Read("config/kv_cache.yaml"));
        File.SetUnixFileMode(project.PathOf(folder), (UnixFileMode)Convert.ToInt32("750", 8));
        project.Manager().MigrateToNewFormat();
        Assert.Contains("max_tokens: 78", project.Read("config/kv_cache.yaml"), StringComparison.Ordinal);
    }

    [Fact]
    public void Another_users_folder_is_refused_and_the_projects_own_may_be_anyones()
    {
        MemoryDisk disk = MemoryProject.Disk("kv_cache:\n  max_tokens: 78\n", "A=1\n");
        disk.Find(MemoryProject.Root)!.IsForeign = true;
        new MemoryProject(disk).Manager.BackupCurrentConfig();
        disk.Find(MemoryProject.Root + "/.kvcache")!.IsForeign = true;
        MemoryProject project = new(disk);
        Assert.Contains("one of another user", Assert.Throws<KvConfigurationException>(() => project.Manager.BackupCurrentConfig()).Message, StringComparison.Ordinal);
        Assert.Equal(0, project.Files.OpenDescriptors);
    }
}
