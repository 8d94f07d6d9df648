using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>A disk that fails at any operation: calls of the tier do not throw, what is read is right, and the tier goes on.</summary>
public class DiskFaultTests(ITestOutputHelper output)
{
    private const string Folder = "/tier";
    private const int Length = 40;
    private const long Limit = 3000;

    [Fact]
    public async Task A_disk_that_fails_at_any_operation_costs_misses_and_nothing_else()
    {
        long fired = 0;
        foreach (Fault fault in Enum.GetValues<Fault>())
        {
            long before = fired;
            for (int point = 1; await FailsAsync(fault, point) is { } once; point++)
            {
                fired += once;
            }

            output.WriteLine($"{fault}: {fired - before} points");
        }

        FaultTally.Report(output, "operations of a disk tier", fired, 500);
    }

    [Fact]
    public async Task A_write_that_fails_ends_the_file_and_leaves_the_blocks_before_it()
    {
        var disk = new MemoryDisk();
        var files = new FaultFiles(disk);
        using KvDiskTier tier = new(Folder, 1 << 20, files, 1);
        await tier.PutAsync(Length, 1, 2);
        files.FailAt = files.Operations + 3;
        Assert.Equal(1, await tier.PutAsync(Length, 3, 4, 5));
        Assert.Contains("EIO", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(2, await tier.PutAsync(Length, 4, 5));
        Assert.Equal(5, await tier.GetAsync(Length, 1, 2, 3, 4, 5));
        Assert.Equal(3, disk.Find(Folder)!.Names.Count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task A_write_that_was_cut_leaves_no_record(int point)
    {
        // Of each block the bytes are written first, and what names them second, here over an end that a power loss left.
        var disk = new MemoryDisk();
        var files = new FaultFiles(disk);
        int written = (point - 1) / 2;
        using (KvDiskTier tier = new(Folder, 1 << 20, files, 1))
        {
            await tier.PutAsync(Length, 1);
            DiskFile file = disk.Find(Folder)!.Find($"blocks-{1:x16}")!;
            file.Replace([.. file.ToArray(), .. new byte[500]]);
            (files.FailAt, files.Fault) = (files.Operations + point, Fault.NoSpace);
            Assert.Equal(written, await tier.PutAsync(Length, 2, 3));
        }

        using KvDiskTier again = new(Folder, 1 << 20, new FaultFiles(disk), 1);
        Assert.Equal((1 + written, 0), (await again.GetAsync(Length, 1, 2, 3), await again.GetAsync(Length, 3)));
        Assert.Equal(0, again.Counts.Errors);
    }

    [Fact]
    public async Task A_read_that_fails_is_a_miss_once()
    {
        var files = new FaultFiles(new MemoryDisk());
        using KvDiskTier tier = new(Folder, 1 << 20, files, 1);
        await tier.PutAsync(Length, 1, 2, 3);
        files.FailAt = files.Operations + 2;
        Assert.Equal(1, await tier.GetAsync(Length, 1, 2, 3));
        Assert.Equal(3, await tier.GetAsync(Length, 1, 2, 3));
        Assert.Equal(1, tier.Counts.Errors);
    }

    [Fact]
    public async Task A_file_that_cannot_be_opened_now_is_there_later()
    {
        var disk = new MemoryDisk();
        using (KvDiskTier tier = new(Folder, 1 << 20, new FaultFiles(disk), 1))
        {
            await tier.PutAsync(Length, 1, 2);
        }

        var files = new FaultFiles(disk);
        files.BeforeCall = call => files.FailAt = call.StartsWith("open blocks-", StringComparison.Ordinal) ? files.Operations + 1 : files.FailAt;
        using (KvDiskTier tier = new(Folder, 1 << 20, files, 1))
        {
            Assert.Contains("EIO", tier.Counts.LastError, StringComparison.Ordinal);
            Assert.Equal(0, await tier.GetAsync(Length, 1));
        }

        using KvDiskTier again = new(Folder, 1 << 20, new FaultFiles(disk), 1);
        Assert.Equal(2, await again.GetAsync(Length, 1, 2));
    }

    [Fact]
    public async Task Where_the_disk_is_full_before_the_limit_what_is_old_makes_room()
    {
        var disk = new MemoryDisk();
        var files = new FaultFiles(disk);
        using KvDiskTier tier = new(Folder, 10 * (2 * DiskFormat.HeaderBytes + Length), files, 1);
        await tier.PutAsync(Length, 1, 2, 3);
        (files.FailAt, files.Fault) = (files.Operations + 2, Fault.NoSpace);
        Assert.Equal(0, await tier.PutAsync(Length, 4));
        Assert.Contains("ENOSPC", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(1, await tier.PutAsync(Length, 4));
        await tier.HoldsAsync(Length, of: [1, 2, 3, 4], [2, 3, 4]);
        await tier.PutAsync(Length, 5);
        await tier.HoldsAsync(Length, of: [1, 2, 3, 4, 5], [2, 3, 4, 5]);
    }

    // How often the fault took effect; null once it lies beyond the last operation.
    private static async Task<int?> FailsAsync(Fault fault, int point)
    {
        var disk = new MemoryDisk();
        using (KvDiskTier tier = new(Folder, Limit, new FaultFiles(disk), 1))
        {
            await tier.PutAsync(Length, 1, 2, 3, 4, 5);
            await tier.PutAsync(2 * Length, 11, 12);
        }

        var files = new FaultFiles(disk) { FailAt = point, Fault = fault };
        int[] all = [.. Enumerable.Range(1, 9)];
        try
        {
            using KvDiskTier tier = new(Folder, Limit, files, 1);
            await tier.GetAsync(Length, 1, 2, 3, 4, 5);
            Assert.InRange(await tier.PutAsync(Length, 6, 7, 8, 9), 0, 4);
            await tier.GetAsync(Length, all);
            await tier.PutAsync(2 * Length, 13, 14, 15, 16, 17, 18);
            await tier.HeldAsync(Length, all);
            Assert.InRange(tier.BytesInUse!.Value, 0, Limit);
            Assert.True(fault == Fault.Short || files.Fired == 0 || tier.Counts.Errors > 0 || fault == Fault.BitFlip, $"{fault} at {point} was not said");
            Assert.True(fault != Fault.Short || tier.Counts.Errors == 0, $"{fault} at {point} is no error: {tier.Counts.LastError}");
        }
        catch (KvPersistenceException)
        {
            // The folder could not be opened.
            Assert.NotEqual(0, files.Fired);
        }

        Assert.Equal(0, files.OpenDescriptors);
        using KvDiskTier again = new(Folder, Limit, new FaultFiles(disk), 1);
        await again.HeldAsync(Length, all);
        await again.HeldAsync(2 * Length, Enumerable.Range(11, 8));
        await again.PutAsync(Length, all);
        Assert.Equal(all.Length, await again.GetAsync(Length, all));
        return files.Operations >= point ? Math.Min(1, files.Fired) : null;
    }
}
