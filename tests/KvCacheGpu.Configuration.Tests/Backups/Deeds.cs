using KvCacheGpu.TestKit;

namespace KvCacheGpu.Configuration.Tests.Backups;

/// <summary>What is tried on a failing disk: a state before, a deed, a state after. Both files of it change together.</summary>
internal sealed record Deed(string Name, MemoryDisk Before, string Old, string New, Action<MemoryProject> Act, Action<MemoryProject> Finish)
{
    private const string V1Env = "A=1\nKV_CACHE_SIZE=77\n", V20File = "kv_cache:\n  max_tokens: 77 # tokens\n";

    public static IReadOnlyList<Deed> All { get; } =
    [
        Make("config migrate", _ => { }, project => project.Manager.MigrateToNewFormat(), project => project.Manager.Recover()),
        Make("config backup", _ => { }, project => project.Manager.BackupCurrentConfig(), project => project.Manager.Recover()),
        Make("config restore", project => project.Manager.MigrateToNewFormat(), project => project.Manager.RestoreFromBackup(project.Manager.ListBackups()[^1]), project => project.Manager.Recover()),
        Make("migrate", _ => { }, project => new KvUpgrade(project.Manager).Run(), Settle),
        Make("rollback", project => new KvUpgrade(project.Manager).Run(), project => new KvUpgrade(project.Manager).Rollback(), Settle),
    ];

    /// <summary>What a disk holds once what was interrupted is finished.</summary>
    public string Settled(MemoryDisk disk)
    {
        Finish(new MemoryProject(disk));
        return MemoryProject.Look(disk);
    }

    // An upgrade that stopped goes on, forwards or back; one that did not begin, or ended, stays as it is.
    private static void Settle(MemoryProject project)
    {
        project.Manager.Recover();
        var upgrade = new KvUpgrade(project.Manager);
        KvUpgradeState? state = upgrade.ListRuns() is [{ } newest, ..] ? newest.State : null;
        if (state == KvUpgradeState.Running)
        {
            upgrade.Run();
        }
        else if (state == KvUpgradeState.RollingBack)
        {
            upgrade.Rollback();
        }
    }

    private static Deed Make(string name, Action<MemoryProject> prepare, Action<MemoryProject> act, Action<MemoryProject> finish)
    {
        MemoryDisk disk = MemoryProject.Disk(V20File, V1Env);
        prepare(new MemoryProject(disk));
        MemoryDisk before = disk.Copy(), after = disk.Copy();
        act(new MemoryProject(after));
        return new Deed(name, before, MemoryProject.Look(before), MemoryProject.Look(after), act, finish);
    }
}
