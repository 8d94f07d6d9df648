using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

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

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_CURRENT_names_is_never_deleted_though_its_rename_reported_an_error(bool staysDead)
    {
        Fault fault = staysDead ? Fault.LateAndDead : Fault.Late;
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        store.Save("a", SnapshotSample.Create(3));
        Assert.Equal(1, RenameOfCurrent(store, fault, () => store.Save("a", SnapshotSample.Create(4))));
        var after = new MemoryStore(disk);
        (string fingerprint, string? notice) = after.LoadWithNotice("a")!.Value;
        Assert.Equal((SnapshotSample.Create(4).Fingerprint, null), (fingerprint, notice));
        Assert.All(after.Store.Verify("a", default), verdict => Assert.Null(verdict.Error));
    }

    [Fact]
    public void An_error_of_a_step_that_took_effect_is_no_error_where_that_can_be_read()
    {
        var store = new MemoryStore(new MemoryDisk());
        store.Save("a", SnapshotSample.Create(3));
        RenameOfCurrent(store, Fault.Late, () => Assert.Equal(2, store.Save("a", SnapshotSample.Create(4)).Generation));
        Assert.Equal(SnapshotSample.Create(4).Fingerprint, store.Load("a"));
    }

    // Makes the rename of CURRENT fail; how often it did. What the deed throws has to say that the outcome is unknown.
    private static int RenameOfCurrent(MemoryStore store, Fault fault, Action deed)
    {
        int before = store.Files.Fired;
        store.Files.Fault = fault;
        store.Files.BeforeCall = call => store.Files.FailAt = call.StartsWith("rename ", StringComparison.Ordinal) && call.EndsWith(".CURRENT", StringComparison.Ordinal)
            ? store.Files.Operations + 1
            : store.Files.FailAt;
        try
        {
            deed();
        }
        catch (KvPersistenceException error)
        {
            Assert.True(error.OutcomeUnknown, error.Message);
        }

        store.Files.BeforeCall = null;
        return Math.Min(1, store.Files.Fired - before);
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
        bool isSaid = isUnknown ? found == scenario.Old || found == scenario.New : found == (error is null ? scenario.New : scenario.Old);
        Assert.True(isSaid, $"{where}: {error} left another snapshot than it said");
        if (error is not null && !isUnknown && fault is not (Fault.Dead or Fault.LateAndDead))
        {
            Assert.True(Names(disk).Except(files).All(name => name == "LOCK"), $"{where}: left {string.Join(", ", Names(disk).Except(files))}");
        }

        // A save that was acknowledged survives a power loss; after one that was not, the old or the new is there.
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
