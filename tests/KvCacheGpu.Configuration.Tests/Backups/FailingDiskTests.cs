using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Configuration.Tests.Backups;

/// <summary>Every file operation of every deed fails in every way, and power is lost before each: old or new, never between, nothing lost.</summary>
public class FailingDiskTests(ITestOutputHelper output)
{
    [Fact]
    public void Whatever_operation_fails_the_files_are_old_or_new()
    {
        long fired = 0;
        foreach (Deed deed in Deed.All)
        {
            foreach (Fault fault in Enum.GetValues<Fault>())
            {
                long before = fired;
                for (int point = 1; Fails(deed, fault, point, ref fired); point++)
                {
                }

                output.WriteLine($"{deed.Name}, {fault}: {fired - before} points");
            }
        }

        Report("file operations of migrate, backup, restore, rollback", fired, 1000);
    }

    [Fact]
    public void A_process_that_dies_before_any_operation_leaves_old_or_new_and_a_power_loss_too()
    {
        long images = 0, olds = 0, news = 0;
        foreach (Deed deed in Deed.All)
        {
            MemoryDisk disk = deed.Before.Copy();
            var project = new MemoryProject(disk);
            bool isDone = false;
            project.Files.Before = () =>
            {
                Settles(deed, disk.Copy(), isDone);
                for (int i = 0; i < 20; i++)
                {
                    Settles(deed, disk.AfterPowerLoss(new Random((int)images)), isDone);
                }
            };
            deed.Act(project);
            isDone = true;
            project.Files.Before();
        }

        output.WriteLine($"old: {olds}, new: {news}");
        Assert.InRange(olds, 1, images);
        Assert.InRange(news, 1, images);
        Report("power losses and deaths", images, 5_000);

        void Settles(Deed deed, MemoryDisk image, bool isDone)
        {
            images++;
            string found = deed.Settled(image);
            Assert.True(found == deed.New || (found == deed.Old && !isDone), $"{deed.Name}, image {images}: {found}");
            Assert.True(IsKept(image, deed.Old), $"{deed.Name}, image {images}: the old bytes are nowhere");
            (olds, news) = (olds + (found == deed.Old ? 1 : 0), news + (found == deed.New ? 1 : 0));
        }
    }

    [Fact]
    public void What_a_process_that_dies_left_half_written_is_swept_by_whoever_comes_next()
    {
        int left = 0;
        foreach (Deed deed in Deed.All)
        {
            MemoryDisk disk = deed.Before.Copy();
            var project = new MemoryProject(disk);
            project.Files.Before = () =>
            {
                MemoryDisk image = disk.Copy();
                left += Temporaries(image).Count;
                var upgrade = new KvUpgrade(new MemoryProject(image).Manager);
                upgrade.Run();
                if (upgrade.ListRuns().Any(run => run.State != KvUpgradeState.RolledBack))
                {
                    upgrade.Rollback();
                }

                Assert.Empty(Temporaries(image));
            };
            deed.Act(project);
        }

        output.WriteLine($"{left} files half written");
        Assert.InRange(left, 20, int.MaxValue);

        static List<string> Temporaries(MemoryDisk disk) =>
        [
            .. new[] { "", "/config", "/.kvcache", "/.kvcache/backups", "/.kvcache/runs" }
                .SelectMany(folder => disk.Find(MemoryProject.Root + folder)?.Names.Select(name => $"{folder}/{name}") ?? [])
                .Where(name => name.EndsWith(".kvcache-tmp", StringComparison.Ordinal)),
        ];
    }

    // False once the fault lies beyond the deed's last operation.
    private static bool Fails(Deed deed, Fault fault, int point, ref long fired)
    {
        MemoryDisk disk = deed.Before.Copy();
        var project = new MemoryProject(disk);
        (project.Files.FailAt, project.Files.Fault) = (point, fault);
        string where = $"{deed.Name}, {fault} at {point}";
        KvCacheException? error = null;
        try
        {
            deed.Act(project);
        }
        catch (KvCacheException thrown)
        {
            error = thrown;
            Assert.True(thrown.Code is "E005" or "E004" or "E003" or "E007", $"{where}: {thrown.Message}");
        }

        Assert.Equal(0, project.Files.OpenDescriptors);
        Assert.True(fault != Fault.Short || error is null, $"{where}: a short write or read is no error, got {error?.Message}");
        fired += Math.Min(project.Files.Fired, 1);
        bool isUnknown = error is KvPersistenceException { OutcomeUnknown: true };
        string now = MemoryProject.Look(disk);
        bool isSaid = now == (error is null ? deed.New : deed.Old);
        Assert.True(isSaid || isUnknown || deed.Name == "rollback", $"{where}: {error?.Message} left {now}");
        string settled = deed.Settled(disk.Copy());
        Assert.True(settled == deed.New || (settled == deed.Old && error is not null), $"{where}: settled to {settled}");
        for (int seed = 0; seed < 3; seed++)
        {
            MemoryDisk image = disk.AfterPowerLoss(new Random(seed));
            string survivor = deed.Settled(image);
            Assert.True(survivor == deed.New || (survivor == deed.Old && error is not null), $"{where}: power loss after {error?.Code ?? "success"}: {survivor}");
            Assert.True(IsKept(image, deed.Old), $"{where}: the old bytes are nowhere");
        }

        deed.Act(new MemoryProject(Freed(disk, deed)));
        return project.Files.Operations >= point;
    }

    // A disk that works again: the deed can be done over what was left.
    private static MemoryDisk Freed(MemoryDisk disk, Deed deed)
    {
        MemoryDisk copy = disk.Copy();
        deed.Finish(new MemoryProject(copy));
        return deed.Name == "rollback" && MemoryProject.Look(copy) == deed.New ? deed.Before.Copy() : copy;
    }

    // The bytes of before are in the files or in a backup.
    private static bool IsKept(MemoryDisk disk, string old)
    {
        if (MemoryProject.Look(disk) == old)
        {
            return true;
        }

        KvCacheConfigManager manager = new MemoryProject(disk).Manager;
        foreach (KvConfigBackup backup in manager.ListBackups())
        {
            MemoryDisk copy = disk.Copy();
            new MemoryProject(copy).Manager.RestoreFromBackup(backup);
            if (MemoryProject.Look(copy) == old)
            {
                return true;
            }
        }

        return false;
    }

    private void Report(string what, long fired, long least)
    {
        string line = $"faults fired: {fired} {what}";
        output.WriteLine(line);
        Console.WriteLine(line);
        Assert.InRange(fired, least, long.MaxValue);
    }
}
