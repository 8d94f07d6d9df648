using KvCacheGpu.TestKit;
using static KvCacheGpu.Tests.Tiers.TierBlocks;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>Blocks in a folder: what is served when it is opened again, what goes, and what is left alone.</summary>
public sealed class DiskTierTests : IDisposable
{
    private const int Length = 100;
    private const int Record = DiskFormat.HeaderBytes + Length;
    private const long Limit = 1 << 20;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-tier-").FullName;

    private string Folder => Path.Combine(_folder, "tier");

    private string[] Files => [.. Directory.GetFiles(Folder, "blocks-*").Order(StringComparer.Ordinal)];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Blocks_come_back_and_come_back_when_the_folder_is_opened_again()
    {
        using (KvDiskTier tier = Open())
        {
            Assert.Equal(("disk", 0L, Limit), (tier.Name, tier.BytesInUse, tier.BytesLimit));
            Assert.Equal((3, 0), (await tier.PutAsync(Length, 1, 2, 3), await tier.PutAsync(Length, 3, 1)));
            Assert.Equal(3, await tier.GetAsync(Length, 1, 2, 3, 4));
            Assert.Equal(new KvTierCounts(3, 1, 3, 3 * Length, 3 * Length, 0, null), tier.Counts);
            Assert.InRange(tier.SecondsPerByte, double.Epsilon, 1);
        }

        using KvDiskTier again = Open();
        Assert.Equal(3, await again.GetAsync(Length, 1, 2, 3, 4));
        Assert.Equal((0, 0), (await again.GetAsync(Length, 4, 1), await again.GetAsync(Length + 1, 1)));
        Assert.Equal(1, await again.PutAsync(Length, 4));
        Assert.Equal((4, 0L), (await again.GetAsync(Length, 1, 2, 3, 4), again.Counts.Errors));
        Assert.Single(Files);
        Assert.Equal(DiskFormat.HeaderBytes + (4 * Record), new FileInfo(Files[0]).Length);
        Assert.Equal(new FileInfo(Files[0]).Length, again.BytesInUse);
    }

    [Fact]
    public void CRC_32C_is_the_checksum() => Assert.Equal(0xE3069283, Crc32C.Of("123456789"u8));

    [Theory]
    [InlineData(Length)]
    [InlineData(1)]
    [InlineData(Record)]
    public async Task Scenario_21_a_file_cut_short_serves_what_is_whole(int cut)
    {
        await Written(1, 2, 3);
        using (FileStream file = File.OpenWrite(Files[0]))
        {
            file.SetLength(file.Length - cut);
        }

        using KvDiskTier tier = Open();
        Assert.Equal(2, await tier.GetAsync(Length, 1, 2, 3));
        Assert.Equal(0, await tier.GetAsync(Length, 3));
        Assert.Equal(0, tier.Counts.Errors);
        Assert.Equal(1, await tier.PutAsync(Length, 3));
        Assert.Equal(DiskFormat.HeaderBytes + (3 * Record), new FileInfo(Files[0]).Length);
        Assert.Equal(3, await tier.GetAsync(Length, 1, 2, 3));
    }

    [Fact]
    public async Task Scenario_21_corruption_that_keeps_the_size_is_caught()
    {
        await Written(1, 2, 3);
        Alter(Files[0], DiskFormat.HeaderBytes + Record + DiskFormat.HeaderBytes + 50);
        using KvDiskTier tier = Open();
        Assert.Equal(1, await tier.GetAsync(Length, 1, 2, 3));
        Assert.Equal(1, await tier.GetAsync(Length, 3));
        Assert.Equal(1, tier.Counts.Errors);
        Assert.Contains("E004", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(0, await tier.GetAsync(Length, 2));
        Assert.Equal(1, tier.Counts.Errors);

        // It can be written anew, and the new one counts from then on.
        Assert.Equal(1, await tier.PutAsync(Length, 2));
        tier.Dispose();
        using KvDiskTier again = Open();
        Assert.Equal(3, await again.GetAsync(Length, 1, 2, 3));
    }

    [Fact]
    public async Task A_block_that_was_written_anew_outlives_the_file_of_the_damaged_one()
    {
        const long Small = 10 * (DiskFormat.HeaderBytes + Record);
        using KvDiskTier tier = Open(Small);
        await tier.PutAsync(Length, 1);
        string damaged = Files[0];
        Alter(damaged, (2 * DiskFormat.HeaderBytes) + 1);
        Assert.Equal((0, 1), (await tier.GetAsync(Length, 1), await tier.PutAsync(Length, 1)));
        await tier.PutAsync(Length, [.. Enumerable.Range(2, 9)]);
        Assert.DoesNotContain(damaged, Files);
        Assert.Equal(10, await tier.GetAsync(Length, [.. Enumerable.Range(1, 10)]));
    }

    [Fact]
    public async Task An_old_file_that_was_written_last_counts_as_used_last_when_the_folder_is_opened_again()
    {
        // Files of 1,200 bytes: six short blocks in one, a long one in each.
        const int Limit = 12_000, Short = 100, Long = 1_000;
        using (KvDiskTier tier = Open(Limit))
        {
            await tier.PutAsync(Short, 0, 1, 2);
            await tier.PutAsync(Long, [.. Enumerable.Range(100, 6)]);
            await tier.PutAsync(Short, 3, 4, 5);
        }

        using KvDiskTier again = Open(Limit);
        await again.PutAsync(Long, [.. Enumerable.Range(106, 4)]);
        Assert.Equal((6, 0, 1), (await again.GetAsync(Short, 0, 1, 2, 3, 4, 5), await again.GetAsync(Long, 100), await again.GetAsync(Long, 101)));
    }

    [Fact]
    public async Task An_end_that_a_power_loss_left_empty_is_written_over()
    {
        await Written(1, 2);
        long whole = DiskFormat.HeaderBytes + (5 * Record);
        using (FileStream file = File.OpenWrite(Files[0]))
        {
            file.SetLength(whole);
        }

        using KvDiskTier tier = Open();
        Assert.Equal((3, 5), (await tier.PutAsync(Length, 3, 4, 5), await tier.GetAsync(Length, 1, 2, 3, 4, 5)));
        Assert.Equal(whole, new FileInfo(Files[0]).Length);
    }

    [Fact]
    public async Task Corruption_while_the_folder_is_open_is_caught_too()
    {
        using KvDiskTier tier = Open();
        await tier.PutAsync(Length, 1, 2);
        Alter(Files[0], DiskFormat.HeaderBytes + DiskFormat.HeaderBytes);
        Assert.Equal((0, 1), (await tier.GetAsync(Length, 1, 2), await tier.GetAsync(Length, 2)));
    }

    [Fact]
    public async Task Another_file_and_one_of_a_later_version_are_left_alone_and_said()
    {
        await Written(1);
        string other = Path.Combine(Folder, $"blocks-{9:x16}"), newer = Path.Combine(Folder, $"blocks-{8:x16}"), unnamed = Path.Combine(Folder, "notes");
        File.WriteAllText(other, "another program's");
        File.WriteAllText(unnamed, "a person's");
        byte[] header = new byte[DiskFormat.HeaderBytes];
        DiskFormat.WriteHeader(header, Length);
        header[8]++;
        BitConverter.TryWriteBytes(header.AsSpan(60), Crc32C.Of(header.AsSpan(0, 60)));
        File.WriteAllBytes(newer, header);
        using KvDiskTier tier = Open();
        Assert.Equal(2, tier.Counts.Errors);
        Assert.Contains("E009", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(1, await tier.GetAsync(Length, 1));
        Assert.Equal(1, await tier.PutAsync(2 * Length, 2));
        Assert.Equal(("another program's", "a person's"), (File.ReadAllText(other), File.ReadAllText(unnamed)));
        Assert.Equal(header, File.ReadAllBytes(newer));
        Assert.Contains(Path.Combine(Folder, $"blocks-{10:x16}"), Files);
        File.Delete(other);
        tier.Dispose();
        using KvDiskTier again = Open();
        Assert.Contains("E007", again.Counts.LastError, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_broken_file_of_ours_and_one_without_blocks_are_deleted()
    {
        await Written(1, 2, 3);
        Alter(Files[0], 20);
        File.WriteAllBytes(Path.Combine(Folder, $"blocks-{2:x16}"), []);
        byte[] header = new byte[DiskFormat.HeaderBytes];
        DiskFormat.WriteHeader(header, Length);
        File.WriteAllBytes(Path.Combine(Folder, $"blocks-{3:x16}"), [.. header, 1, 2, 3]);
        using KvDiskTier tier = Open();
        Assert.Empty(Files);
        Assert.Equal((0, 1L, 0L), (await tier.GetAsync(Length, 1), tier.Counts.Errors, tier.BytesInUse));
    }

    [Fact]
    public async Task The_file_used_longest_ago_goes_first()
    {
        // Ten files of one block each, at most.
        const long Small = 10 * (DiskFormat.HeaderBytes + Record);
        using (KvDiskTier tier = Open(Small))
        {
            await tier.PutAsync(Length, [.. Enumerable.Range(1, 10)]);
            Assert.Equal(10, Files.Length);
            await tier.GetAsync(Length, 1);
            await tier.PutAsync(Length, 11, 12, 13);
            await tier.HoldsAsync(Length, of: Enumerable.Range(1, 13), [1, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
            Assert.Equal((Small, 10), (tier.BytesInUse, Files.Length));
            await tier.PutAsync(5 * Length, 20);
            Assert.InRange(Files.Sum(file => new FileInfo(file).Length), 1, Small);
            await tier.HoldsAsync(Length, of: [11, 12, 13], [11, 12, 13]);
        }

        using KvDiskTier smaller = Open(4 * (DiskFormat.HeaderBytes + Record));
        Assert.InRange(Files.Sum(file => new FileInfo(file).Length), 1, 4 * (DiskFormat.HeaderBytes + Record));
        Assert.Equal(1, await smaller.GetAsync(5 * Length, 20));
    }

    [Fact]
    public async Task Files_of_many_lengths_stay_few()
    {
        using KvDiskTier tier = Open(1 << 24);
        for (int length = 1; length <= DiskWriter.MostSegments + 50; length++)
        {
            Assert.Equal(1, await tier.PutAsync(length, length));
        }

        Assert.Equal(DiskWriter.MostSegments, Files.Length);
        Assert.Equal(1, await tier.GetAsync(DiskWriter.MostSegments, DiskWriter.MostSegments));
    }

    [Fact]
    public async Task A_block_above_the_limit_is_left_out_and_said()
    {
        using KvDiskTier tier = Open(DiskFormat.HeaderBytes + Record - 1);
        Assert.Equal(0, await tier.PutAsync(Length, 1));
        Assert.Contains("E003", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(1, await tier.PutAsync(Length - 1, 2));
    }

    [Fact]
    public async Task One_tier_at_a_time_has_a_folder()
    {
        using (KvDiskTier tier = Open())
        {
            Assert.Equal("E006", Assert.Throws<KvStoreBusyException>(() => Open()).Code);
            Assert.Equal(1, await tier.PutAsync(Length, 1));
        }

        Open().Dispose();
    }

    [Fact]
    public async Task After_disposal_everything_is_a_miss()
    {
        KvDiskTier tier = Open();
        await tier.PutAsync(Length, 1);
        tier.Dispose();
        tier.Dispose();
        Assert.Equal((0, 0, 2L, 0L), (await tier.GetAsync(Length, 1), await tier.PutAsync(Length, 2), tier.Counts.Errors, tier.BytesInUse));
    }

    [Fact]
    public async Task A_cancelled_call_throws_and_the_tier_goes_on()
    {
        using KvDiskTier tier = Open();
        await tier.PutAsync(Length, 1);
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await tier.ReadAsync(Keys(1), new byte[Length], cancelled.Token));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await tier.WriteAsync(Keys(2), Content(Keys(2), Length), cancelled.Token));
        Assert.Equal((1, 0, 0L), (await tier.GetAsync(Length, 1), await tier.GetAsync(Length, 2), tier.Counts.Errors));
    }

    [Fact]
    public void Arguments_and_folders_are_checked()
    {
        Assert.Throws<ArgumentException>(() => new KvDiskTier("", 1));
        Assert.Throws<ArgumentException>(() => new KvDiskTier("\ud800", 1));
        Assert.Throws<ArgumentOutOfRangeException>("bytesLimit", () => Open(0));
        Assert.Equal("E005", Assert.Throws<KvPersistenceException>(() => new KvDiskTier(Path.Combine(_folder, "no", "parent"), 1)).Code);
        var disk = new MemoryDisk();
        disk.Make("/tier");
        disk.Find("/tier")!.Mode = 0x1FF;
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => new KvDiskTier("/tier", 1, new FaultFiles(disk), 1)).Code);
        disk.Find("/tier")!.Mode = 0x1C0;
        disk.Find("/tier")!.IsForeign = true;
        var files = new FaultFiles(disk);
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => new KvDiskTier("/tier", 1, files, 1)).Code);
        Assert.Equal(0, files.OpenDescriptors);
    }

    [Fact]
    public async Task Files_are_their_owners_alone_and_links_are_not_followed()
    {
        await Written(1);
        Assert.All(Directory.GetFiles(Folder), file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, Mode(file)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, Mode(Folder));
        string moved = Path.Combine(_folder, "moved"), link = Path.Combine(_folder, "link");
        File.Move(Files[0], moved);
        byte[] before = File.ReadAllBytes(moved);
        File.CreateSymbolicLink(Path.Combine(Folder, Path.GetFileName($"blocks-{1:x16}")), moved);
        using (KvDiskTier tier = Open())
        {
            Assert.Contains("ELOOP", tier.Counts.LastError, StringComparison.Ordinal);
            Assert.Equal((0, 1), (await tier.GetAsync(Length, 1), await tier.PutAsync(Length, 2)));
        }

        Assert.Equal(before, File.ReadAllBytes(moved));
        Directory.CreateSymbolicLink(link, Folder);
        Assert.Equal("E005", Assert.Throws<KvPersistenceException>(() => new KvDiskTier(link, Limit)).Code);
        File.Delete(Path.Combine(Folder, KvDiskTier.LockName));
        File.CreateSymbolicLink(Path.Combine(Folder, KvDiskTier.LockName), moved);
        Assert.Equal("E005", Assert.Throws<KvPersistenceException>(() => Open()).Code);
    }

    private KvDiskTier Open(long limit = Limit) => new(Folder, limit);

    private async Task Written(params int[] numbers)
    {
        using KvDiskTier tier = Open();
        Assert.Equal(numbers.Length, await tier.PutAsync(Length, numbers));
    }

    private static UnixFileMode Mode(string path) => OperatingSystem.IsWindows() ? default : File.GetUnixFileMode(path);

    private static void Alter(string file, int at)
    {
        byte[] bytes = File.ReadAllBytes(file);
        bytes[at] ^= 1;
        using FileStream stream = File.OpenWrite(file);
        stream.Position = at;
        stream.WriteByte(bytes[at]);
    }
}
