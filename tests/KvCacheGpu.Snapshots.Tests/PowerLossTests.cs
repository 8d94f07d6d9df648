using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>Power losses before every operation of each scenario, and after its end, each leaving one of the many disks it might.</summary>
public class PowerLossTests(ITestOutputHelper output)
{
    [Fact]
    public void After_a_power_loss_the_old_or_the_new_snapshot_is_there_and_the_new_one_once_it_was_acknowledged()
    {
        long images = 0, olds = 0, news = 0, tried = 0;
        int perPoint = FaultTally.Slice(60, 3_000);
        foreach (Scenario scenario in Scenario.All)
        {
            MemoryDisk disk = scenario.Prepare();
            var store = new MemoryStore(disk, scenario.Options);
            bool isAcknowledged = false;
            store.Files.Before = () =>
            {
                for (int i = 0; i < perPoint; i++)
                {
                    var image = new MemoryStore(disk.AfterPowerLoss(new Random((int)images++)), scenario.Options);
                    string? found = image.Load("a");
                    bool isNew = found == scenario.New;
                    Assert.True(isNew || (found == scenario.Old && !isAcknowledged), $"{scenario.Name}, operation {store.Files.Operations}, image {images}");
                    (olds, news) = (olds + (isNew ? 0 : 1), news + (isNew ? 1 : 0));
                    if (i % 20 == 0)
                    {
                        image.Save("a", SnapshotSample.Create(8));
                        Assert.Equal(SnapshotSample.Create(8).Fingerprint, image.Load("a"));
                        tried++;
                    }
                }
            };
            scenario.Act(store);
            isAcknowledged = true;
            store.Files.Before();
        }

        output.WriteLine($"old: {olds}, new: {news}, saved again over what was left: {tried}");
        FaultTally.Report(output, "power losses", images, 20_000);
        Assert.InRange(olds, 1, images);
    }

    [Fact]
    public void The_disk_does_lose_what_was_not_synced()
    {
        int lost = 0, torn = 0;
        for (int seed = 0; seed < 100; seed++)
        {
            var disk = new MemoryDisk();
            var files = new FaultFiles(disk);
            files.MakeDirectory("/d");
            disk.Sync(disk.Find("/")!);
            int directory = files.OpenDirectory("/d");
            int file = files.Open(directory, "f", FileUse.Create);
            byte[] bytes = Enumerable.Repeat((byte)7, 2048).ToArray();
            files.Write(file, bytes, 0);
            DiskFile? survivor = disk.AfterPowerLoss(new Random(seed)).Find("/d")!.Find("f");
            byte[] found = new byte[2048];
            lost += survivor is null ? 1 : 0;
            torn += survivor?.Read(found, 0) > 0 && !found.AsSpan().SequenceEqual(bytes) ? 1 : 0;
            files.Sync(file);
            files.Sync(directory);
            Assert.Equal(2048, disk.AfterPowerLoss(new Random(seed)).Find("/d")!.Find("f")!.Read(found, 0));
            Assert.Equal(bytes, found);
        }

        Assert.InRange(lost, 30, 70);
        Assert.InRange(torn, 10, 60);
    }
}
