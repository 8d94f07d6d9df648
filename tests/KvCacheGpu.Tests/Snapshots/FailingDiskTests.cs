using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Each operation of each scenario fails in each way, until none fires.</summary>
public class FailingDiskTests(ITestOutputHelper output)
{
    [Fact]
    public void Whatever_operation_fails_the_old_or_the_new_snapshot_is_there()
    {
        long fired = 0;
        foreach (Scenario scenario in Scenario.All)
        {
            foreach (Fault fault in Enum.GetValues<Fault>())
            {
                long before = fired;
                for (int point = 1; Fails(scenario, fault, point, ref fired); point++)
                {
                }

                output.WriteLine($"{scenario.Name}, {fault}: {fired - before} points");
            }
        }

        FaultTally.Report(output, "operations of the store", fired, 1000);
    }

    [Fact]
    public void Loading_through_a_failing_disk_is_right_or_an_error()
    {
        long fired = 0;
        foreach ((Scenario scenario, Fault fault) in Scenario.All.Where(one => one.Name.StartsWith('t') || one.Name == "deletion").SelectMany(_ => Enum.GetValues<Fault>(), (one, fault) => (one, fault)))
        {
            MemoryDisk disk = scenario.Prepare();
            string newest = SnapshotSample.Create(2).Fingerprint, before = SnapshotSample.Create(1).Fingerprint;
            for (int point = 1; ; point++)
            {
                var store = new MemoryStore(disk);
                (store.Files.FailAt, store.Files.Fault) = (point, fault);
                try
                {
                    (string fingerprint, string? notice) = store.LoadWithNotice("a")!.Value;
                    Assert.True(fingerprint == newest || (fingerprint == before && notice is not null), $"{fault} at {point}: {notice}");
                }
                catch (KvCacheException error)
                {
                    Assert.Contains(error.Code, new[] { "E004", "E005" });
                }

                Assert.Equal(0, store.Files.OpenDescriptors);
                if (store.Files.Operations < point)
                {
                    break;
                }

                fired += Math.Min(store.Files.Fired, 1);
            }
        }

        FaultTally.Report(output, "operations of loading", fired, 100);
    }

    // False once the fault lies beyond the scenario's last operation.
    private static bool Fails(Scenario scenario, Fault fault, int point, ref long fired)
    {
        MemoryDisk disk = scenario.Prepare();
        string[] files = Names(disk);
        var store = new MemoryStore(disk, scenario.Options);
        (store.Files.FailAt, store.Files.Fault) = (point, fault);
        string where = $"{scenario.Name}, {fault} at {point}";
        string? error = null;
        bool isUnknown = false;
        try
        {
            scenario.Act(store);
        }
        catch (KvCacheException thrown)
        {
            error = thrown.Code;
            isUnknown = thrown is KvPersistenceException { OutcomeUnknown: true };
            Assert.True(error is "E005" or "E004", $"{where}: {thrown.Message}");
        }

        Assert.Equal(0, store.Files.OpenDescriptors);
        Assert.True(fault != Fault.Short || error is null, $"{where}: a short write or read is no error, got {error}");
        fired += Math.Min(store.Files.Fired, 1);
        var after = new MemoryStore(disk, scenario.Options);
        string? found = after.Load("a");
        Assert.True(found == (error is null || isUnknown ? scenario.New : scenario.Old), $"{where}: {error} left another snapshot than it said");
        if (error is not null && !isUnknown && fault != Fault.Dead)
        {
            Assert.True(Names(disk).Except(files).All(name => name == "LOCK"), $"{where}: left {string.Join(", ", Names(disk).Except(files))}");
        }

        // What was acknowledged survives a power loss; what was not is the old or the new.
        for (int seed = 0; seed < 3; seed++)
        {
            string? survivor = new MemoryStore(disk.AfterPowerLoss(new Random(seed)), scenario.Options).Load("a");
            Assert.True(survivor == found || (error is not null && (survivor == scenario.Old || survivor == scenario.New)), $"{where}: power loss after {error ?? "success"}");
        }

        after.Save("a", SnapshotSample.Create(7));
        Assert.Equal(SnapshotSample.Create(7).Fingerprint, after.Load("a"));
        return store.Files.Operations >= point;
    }

    private static string[] Names(MemoryDisk disk) => [.. disk.Find(MemoryStore.Path)?.Names ?? []];
}
