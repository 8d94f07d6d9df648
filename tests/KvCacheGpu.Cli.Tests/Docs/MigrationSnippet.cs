using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>The guide's program, compiled and run.</summary>
internal static class MigrationSnippet
{
    public static void Run(KvConfigLocation location)
    {
        // <migration>
        var manager = new KvCacheConfigManager(location);
        if (manager.DetectOldFormat())
        {
            KvConfigBackup backup = manager.BackupCurrentConfig();
            KvConfigMigration migration = manager.MigrateToNewFormat(lossless: true);
            Console.WriteLine($"{migration.Files.Count} files migrated; backup {backup.Id}");
        }

        foreach (KvConfigBackup one in manager.ListBackups())
        {
            Console.WriteLine(one);                               // newest first
        }

        manager.RestoreFromBackup(manager.ListBackups()[0]);
        // </migration>
    }
}
