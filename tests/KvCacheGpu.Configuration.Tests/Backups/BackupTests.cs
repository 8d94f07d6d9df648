using System.Text;

namespace KvCacheGpu.Configuration.Tests.Backups;

/// <summary>Backups on the real disk: listed, restored byte for byte, refused when altered; no symlink, no way out of the root.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class BackupTests
{
    private const string File = "config/kv_cache.yaml", Old = "kv_cache:\r\n  max_tokens: 7\r\n", Env = "KV_CACHE_SIZE=7\nX='\u00e9'";

    [Fact]
    public void A_restore_gives_bytes_and_permissions_back()
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager();
        KvConfigBackup backup = manager.BackupCurrentConfig();
        Assert.Equal([File, ".env"], backup.Files);
        project.Write(File, "other");
        System.IO.File.Delete(project.PathOf(".env"));
        KvConfigBackup? before = manager.RestoreFromBackup(backup);
        Assert.Equal((Old, Env), (project.Read(File), project.Read(".env")));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, System.IO.File.GetUnixFileMode(project.PathOf(File)));
        manager.RestoreFromBackup(before!);
        Assert.Equal("other", project.Read(File));
        Assert.Null(manager.RestoreFromBackup(before!));
        Assert.DoesNotContain(Directory.GetFiles(project.Root, "*", SearchOption.AllDirectories), name => name.EndsWith("tmp", StringComparison.Ordinal) || name.EndsWith("JOURNAL", StringComparison.Ordinal));
    }

    [Fact]
    public void Migration_keeps_permissions()
    {
        using DiskProject project = Filled();
        project.Manager().MigrateToNewFormat();
        Assert.Contains("prefetch_size: 8\r\n", project.Read(File), StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, System.IO.File.GetUnixFileMode(project.PathOf(File)));
    }

    [Fact]
    public void Every_altered_byte_and_every_length_is_refused_and_listed_as_damaged()
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager();
        KvConfigBackup backup = manager.BackupCurrentConfig();
        string path = project.PathOf($".kvcache/backups/{backup.Id}.backup");
        byte[] bytes = System.IO.File.ReadAllBytes(path);
        project.Write(File, "now");
        int tried = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            byte[] altered = [.. bytes];
            altered[i] ^= 1;
            Refused(altered);
            Refused(bytes[..i]);
        }

        Assert.InRange(tried, 1000, int.MaxValue);

        void Refused(byte[] altered)
        {
            System.IO.File.WriteAllBytes(path, altered);
            Assert.True(Record.Exception(() => manager.RestoreFromBackup(backup)) is KvCorruptionException or KvNewerVersionException);
            Assert.NotNull(manager.ListBackups().Single().Flaw);
            Assert.Equal("now", project.Read(File));
            tried++;
        }
    }

    // Each change of a byte and each length, in turn through everything that looks at the journal first.
    [Fact]
    public void A_damaged_journal_is_named_with_the_way_out_and_nothing_of_it_is_used()
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager();
        KvConfigBackup backup = manager.BackupCurrentConfig();
        var change = new FileChange(File, manager.Files.Read(File, TextFile.MostBytes), new FileImage("new"u8.ToArray(), 0x1A4));
        byte[] journal = SealedText.Write("journal", new ChangeJournal.Entry([change]), SealedJson.Default.Journal).Bytes;
        Action[] deeds =
        [
            manager.Recover, () => manager.DetectOldFormat(), () => manager.BackupCurrentConfig(), () => manager.MigrateToNewFormat(), () => manager.RestoreFromBackup(backup),
            () => new KvUpgrade(manager).Run(), () => new KvUpgrade(manager).Rollback(),
        ];
        string path = project.PathOf(".kvcache/JOURNAL");
        for (int i = 0; i < journal.Length; i++)
        {
            byte[] altered = [.. journal];
            altered[i] ^= 1;
            foreach (byte[] damaged in new[] { altered, journal[..i] })
            {
                System.IO.File.WriteAllBytes(path, damaged);
                KvCacheException error = Assert.ThrowsAny<KvCacheException>(deeds[i % deeds.Length]);
                Assert.True(error is KvCorruptionException or KvNewerVersionException, error.Message);
                Assert.True(error is KvNewerVersionException || error.Message.StartsWith($"E004: {path}: ", StringComparison.Ordinal), error.Message);
                Assert.True(error is KvNewerVersionException || error.Message.Contains("remove it", StringComparison.Ordinal), error.Message);
                Assert.Equal((Old, Env), (project.Read(File), project.Read(".env")));
                Assert.Equal(damaged, System.IO.File.ReadAllBytes(path));
            }
        }

        System.IO.File.Delete(path);
        Assert.True(manager.DetectOldFormat());
        System.IO.File.WriteAllBytes(path, journal);
        Assert.Null(Record.Exception(manager.Recover));
        Assert.Equal("new", project.Read(File));
        Assert.False(System.IO.File.Exists(path));
    }

    [Theory]
    [InlineData("../outside")]
    [InlineData("/etc/outside")]
    [InlineData("config/../../outside")]
    [InlineData(".kvcache/LOCK")]
    [InlineData("a//b")]
    public void A_made_up_backup_leads_nowhere_else(string target)
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager();
        KvConfigBackup backup = manager.BackupCurrentConfig();
        string path = project.PathOf($".kvcache/backups/{backup.Id}.backup");
        string json = System.IO.File.ReadAllText(path);
        json = json[(json.IndexOf('\n', StringComparison.Ordinal) + 1)..].Replace($"\"{File}\"", $"\"{target}\"", StringComparison.Ordinal);
        byte[] bytes = Encoding.UTF8.GetBytes(json);
        System.IO.File.WriteAllBytes(path, [.. Encoding.UTF8.GetBytes($"kvcache-backup 1 {SealedText.Hash(bytes)}\n"), .. bytes]);
        Assert.Throws<KvCorruptionException>(() => manager.RestoreFromBackup(backup));
        Assert.Equal((Old, Env), (project.Read(File), project.Read(".env")));
    }

    [Fact]
    public void Nothing_goes_through_a_symlink()
    {
        using DiskProject project = Filled();
        using var elsewhere = new DiskProject();
        KvCacheConfigManager manager = project.Manager();
        KvConfigBackup backup = manager.BackupCurrentConfig();

        System.IO.File.Delete(project.PathOf(".env"));
        System.IO.File.WriteAllText(elsewhere.PathOf("secret"), "KV_CACHE_SIZE=1\n");
        System.IO.File.CreateSymbolicLink(project.PathOf(".env"), elsewhere.PathOf("secret"));
        Assert.Throws<KvPersistenceException>(() => manager.MigrateToNewFormat());
        Assert.Throws<KvPersistenceException>(() => manager.BackupCurrentConfig());
        Assert.Throws<KvPersistenceException>(() => manager.RestoreFromBackup(backup));
        System.IO.File.Delete(project.PathOf(".env"));

        Directory.Delete(project.PathOf("config"), recursive: true);
        Directory.CreateSymbolicLink(project.PathOf("config"), elsewhere.Root);
        Assert.Throws<KvPersistenceException>(() => manager.RestoreFromBackup(backup));
        Assert.Equal(["secret"], Directory.GetFiles(elsewhere.Root).Select(Path.GetFileName));
        Assert.Equal("KV_CACHE_SIZE=1\n", elsewhere.Read("secret"));
    }

    [Fact]
    public void The_oldest_go_but_those_of_upgrades_stay()
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager(keep: 3);
        KvUpgradeRun run = new KvUpgrade(manager).Run()!;
        string[] made = [.. Enumerable.Range(0, 6).Select(_ => manager.BackupCurrentConfig().Id)];
        Assert.Equal([.. made.Reverse().Take(3), run.Id], manager.ListBackups().Select(backup => backup.Id));
    }

    [Fact]
    public void A_second_writer_is_told_to_wait_and_what_is_not_there_is_said()
    {
        using DiskProject project = Filled();
        KvCacheConfigManager manager = project.Manager();
        manager.Locked(() => Assert.Throws<KvStoreBusyException>(() => project.Manager().BackupCurrentConfig()));
        Assert.Throws<KvSnapshotNotFoundException>(() => manager.RestoreFromBackup("../../etc/passwd"));
        Assert.Throws<KvSnapshotNotFoundException>(() => new DiskProject().Manager().BackupCurrentConfig());
    }

    private static DiskProject Filled()
    {
        var project = new DiskProject();
        project.Write(File, Old);
        project.Write(".env", Env);
        System.IO.File.SetUnixFileMode(project.PathOf(File), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        return project;
    }
}
