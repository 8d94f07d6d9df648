using System.Text;

namespace KvCacheGpu.Configuration.Tests.Versions;

/// <summary>The examples of the migration guide, and files as people write them, from real files to real files.</summary>
public class GoldenTests
{
    [Theory]
    [InlineData("v1.json", "v1.migrated.json", "1.x", true)]
    [InlineData("v1-empty-size.json", "v1-empty-size.migrated.json", "1.x", true)]
    [InlineData("v1-foreign.json", "v1-foreign.migrated.json", "1.x", true)]
    [InlineData("v20.json", "v20.migrated.json", "2.0", false)]
    [InlineData("v1.yaml", "v1.migrated.yaml", "1.x", true)]
    [InlineData("v20.yaml", "v20.migrated.yaml", "2.0", false)]
    [InlineData("v1.env", "v1.migrated.env", "1.x", true)]
    [InlineData("v1-foreign.env", "v1-foreign.migrated.env", "1.x", true)]
    [InlineData("v20.env", "v20.migrated.env", "2.0", false)]
    public void A_file_migrates_as_documented_and_twice_is_once(string before, string after, string version, bool warnsOfLoss)
    {
        foreach (string newLine in new[] { "\n", "\r\n" })
        {
            foreach (string mark in new[] { "", "\uFEFF" })
            {
                string Bent(string name) => mark + Golden(name).ReplaceLineEndings(newLine);
                using DiskProject project = Open(before);
                string name = before.EndsWith(".env", StringComparison.Ordinal) ? project.Location.Env : project.Location.File;
                project.Write(name, Bent(before));
                KvCacheConfigManager manager = project.Manager();
                Assert.True(manager.DetectOldFormat());
                KvConfigMigration dry = manager.MigrateToNewFormat(dryRun: true);
                Assert.Equal(Bent(before), project.Read(name));
                Assert.Empty(manager.ListBackups());

                KvConfigMigration done = manager.MigrateToNewFormat();
                Assert.Equal(Bent(after), project.Read(name));
                Assert.Equal((name, version, "2.1"), (done.Files.Single().Path, done.Files[0].From.Name(), done.Files[0].To.Name()));
                Assert.Equal(dry.Files, done.Files);
                Assert.Equal(warnsOfLoss, done.Warnings.Any(warning => warning.Contains(V1ToV20.LossWarning, StringComparison.Ordinal)));
                Assert.Equal(version, done.Backup!.Version);

                Assert.False(manager.DetectOldFormat());
                Assert.Empty(manager.MigrateToNewFormat().Files);
                Assert.Equal(Bent(after), project.Read(name));
                manager.RestoreFromBackup(manager.ListBackups().Single(backup => backup.Id == done.Backup.Id));
                Assert.Equal(Bent(before), project.Read(name));
            }
        }
    }

    [Theory]
    [InlineData("v1.json", "v1.lossless.json")]
    [InlineData("v1.env", "v1.lossless.env")]
    public void Lossless_leaves_compression_off_and_needs_no_warning(string before, string after)
    {
        using DiskProject project = Open(before);
        string name = before.EndsWith(".env", StringComparison.Ordinal) ? project.Location.Env : project.Location.File;
        project.Write(name, Golden(before));
        Assert.Empty(project.Manager().MigrateToNewFormat(lossless: true).Warnings);
        Assert.Equal(Golden(after), project.Read(name));
    }

    [Fact]
    public void A_manual_update_as_in_the_guide_is_of_the_new_version()
    {
        using var project = new DiskProject();
        project.Write(".env", Golden("v20.env") + "KV_CACHE_ENABLE_PREFETCH=true\n");
        Assert.False(project.Manager().DetectOldFormat());
        Assert.Equal(KvConfigVersion.V21, project.Manager().DetectVersions()[1].Version);
    }

    [Fact]
    public void The_guides_scripts_run()
    {
        using var project = new DiskProject();
        project.Write(".env", Golden("v1.env"));
        project.Write("config/kv_cache.yaml", Golden("v20.yaml"));
        KvCacheConfigManager manager = project.Manager();
        Assert.True(manager.DetectOldFormat());
        KvConfigBackup backup = manager.BackupCurrentConfig();
        manager.MigrateToNewFormat();
        Assert.False(manager.DetectOldFormat());

        IReadOnlyList<KvConfigBackup> backups = manager.ListBackups();
        Assert.Equal([backup.Id], backups.Select(one => one.Id));
        Assert.Contains("version 1.x", backups[0].ToString(), StringComparison.Ordinal);
        manager.RestoreFromBackup(backups[0]);
        Assert.Equal((Golden("v1.env"), Golden("v20.yaml")), (project.Read(".env"), project.Read("config/kv_cache.yaml")));
        Assert.Equal(2, manager.ListBackups().Count);
        Assert.Equal("before a restore", manager.ListBackups()[0].Reason);
    }

    [Fact]
    public void Variables_do_not_override_what_the_file_says_otherwise()
    {
        using var project = new DiskProject();
        project.Write(".env", "KV_CACHE_SIZE=99\n");
        project.Write("config/kv_cache.yaml", "kv_cache:\n  enable_persistence: false\n  prefetch_size: 4\n  use_compression: false\n");
        KvConfigMigration done = project.Manager().MigrateToNewFormat();
        Assert.Empty(done.Warnings);
        Assert.Equal("KV_CACHE_MAX_TOKENS=99\nKV_CACHE_PERSISTENCE_PATH=/data/cache\nKV_CACHE_ENABLE_PREFETCH=true\n", project.Read(".env"));
        Assert.Equal("kv_cache:\n  enable_persistence: false\n  prefetch_size: 4\n  use_compression: false\n", project.Read("config/kv_cache.yaml"));
        Assert.False(project.Manager().DetectOldFormat());
    }

    [Fact]
    public void The_processes_environment_is_detected_and_warned_of()
    {
        using var project = new DiskProject();
        project.Write(".env", Golden("v20.env"));
        KvCacheConfigManager manager = project.Manager(20, ("KV_CACHE_SIZE", "4096"));
        Assert.Equal(["config/kv_cache.yaml none", ".env 2.0", "environment 1.x"], manager.DetectVersions().Select(one => $"{one.Source} {one.Version?.Name() ?? "none"}"));
        Assert.Contains("KV_CACHE_MAX_TOKENS", Assert.Single(manager.MigrateToNewFormat().Warnings), StringComparison.Ordinal);
        Assert.Throws<KvNewerVersionException>(() => project.Manager(20, ("KV_CACHE_SCHEMA_VERSION", "2.2")).DetectVersions());
    }

    [Fact]
    public void A_diff_is_what_patch_takes()
    {
        using var project = new DiskProject();
        project.Write("config/kv_cache.yaml", Golden("v20.yaml"));
        Assert.Equal(
            """
            --- a/config/kv_cache.yaml
            +++ b/config/kv_cache.yaml
            @@ -8,6 +8,8 @@
               enable_persistence: true
               persistence_path: "/data/cache"
               # kept for the night run
            +  enable_prefetch: true
            +  prefetch_size: 8
             
             other:
               - kv_cache

            """,
            project.Manager().MigrateToNewFormat(dryRun: true).Files.Single().Diff);
    }

    private static DiskProject Open(string before) => new(before.EndsWith(".json", StringComparison.Ordinal) ? "config/kv_cache.json" : "config/kv_cache.yaml");

    private static string Golden(string name) => File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Golden", name), Encoding.UTF8);
}
