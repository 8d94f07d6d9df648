using KvCacheGpu.TestKit;

namespace KvCacheGpu.Configuration.Tests.Backups;

/// <summary>What a removal says is what is there, also where a step of it did its work and reported an error.</summary>
public sealed class RemovalTests
{
    [Fact]
    public void A_removal_says_what_is_there()
    {
        int fired = 0;
        foreach (Fault fault in Enum.GetValues<Fault>())
        {
            for (int failAt = 1; ; failAt++)
            {
                MemoryDisk disk = MemoryProject.Disk("a: 1", "A=1");
                FaultFiles files = new(disk) { FailAt = failAt, Fault = fault };
                Exception? error = Record.Exception(() => new RootedFiles(files, MemoryProject.Root).Remove(MemoryProject.File));
                Assert.True(error is null or KvPersistenceException, $"{fault} at {failAt}: {error}");
                bool isThere = disk.Find(MemoryProject.Root + "/config")!.Find("kv_cache.yaml") is not null;
                bool isUnknown = error is KvPersistenceException { OutcomeUnknown: true };
                Assert.True(isUnknown || isThere == (error is not null), $"{fault} at {failAt}: {error?.Message}");
                bool comesBack = Enumerable.Range(0, 20).Any(seed => disk.AfterPowerLoss(new Random(seed)).Find(MemoryProject.Root + "/config")!.Find("kv_cache.yaml") is not null);
                Assert.True(error is not null || !comesBack, $"{fault} at {failAt}: a removal that was acknowledged came back");
                fired += files.Fired;
                if (files.Operations < failAt)
                {
                    break;
                }
            }
        }

        Assert.InRange(fired, 10, int.MaxValue);
    }

    [Fact]
    public void What_an_earlier_removal_could_not_sync_is_synced_by_the_next()
    {
        MemoryDisk disk = MemoryProject.Disk("a: 1", "A=1");
        FaultFiles files = new(disk);
        RootedFiles rooted = new(files, MemoryProject.Root);
        files.BeforeCall = call => files.FailAt = call.StartsWith("fsync", StringComparison.Ordinal) ? files.Operations + 1 : 0;
        Assert.True(Assert.Throws<KvPersistenceException>(() => rooted.Remove(MemoryProject.Env)).OutcomeUnknown);
        (files.BeforeCall, files.FailAt) = (null, 0);
        rooted.Remove(MemoryProject.Env);
        Assert.All(Enumerable.Range(0, 20), seed => Assert.Null(disk.AfterPowerLoss(new Random(seed)).Find(MemoryProject.Root)!.Find(MemoryProject.Env)));
    }

    [Fact]
    public void A_change_that_was_undone_is_not_of_an_unknown_outcome()
    {
        MemoryDisk disk = MemoryProject.Disk("kv_cache:\n  max_tokens: 78\n", "KV_CACHE_SIZE=78\n");
        string before = MemoryProject.Look(disk);
        MemoryProject project = new(disk);
        bool isRenamed = false;

        // The first file is in its place, and the sync behind it fails, once.
        project.Files.BeforeCall = call =>
        {
            isRenamed |= call == "rename kv_cache.yaml";
            if (isRenamed && project.Files.FailAt == 0 && call.StartsWith("fsync", StringComparison.Ordinal))
            {
                project.Files.FailAt = project.Files.Operations + 1;
            }
        };
        KvPersistenceException error = Assert.Throws<KvPersistenceException>(() => project.Manager.MigrateToNewFormat());
        Assert.False(error.OutcomeUnknown, error.Message);
        Assert.Equal(before, MemoryProject.Look(disk));
    }
}
