using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>Files of blocks cut at every byte, with every bit changed, and as a power loss leaves them: what is whole is served, nothing else is, and no call throws.</summary>
public class TornFileTests(ITestOutputHelper output)
{
    private const string Folder = "/tier";
    private const int Length = 40;
    private const int Record = DiskFormat.HeaderBytes + Length;
    private const int Blocks = 4;

    private static readonly string FileName = $"blocks-{1:x16}";

    [Fact]
    public async Task A_file_cut_at_any_byte_gives_exactly_what_is_whole()
    {
        byte[] whole = await WrittenAsync();
        for (int bytes = 0; bytes < whole.Length; bytes++)
        {
            await ServesAsync(whole[..bytes], Enumerable.Range(0, Math.Max(0, bytes - DiskFormat.HeaderBytes) / Record), $"{bytes} bytes");
        }

        FaultTally.Report(output, "truncations of a file of blocks", whole.Length, DiskFormat.HeaderBytes + (Blocks * Record));
    }

    [Fact]
    public async Task A_file_with_any_bit_changed_gives_exactly_what_is_whole()
    {
        byte[] whole = await WrittenAsync();
        for (int bit = 0; bit < 8 * whole.Length; bit++)
        {
            byte[] flipped = [.. whole];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            int at = (bit / 8) - DiskFormat.HeaderBytes;
            await ServesAsync(flipped, Enumerable.Range(0, Blocks).Where(i => at >= 0 && i != at / Record), $"bit {bit}");
        }

        FaultTally.Report(output, "bit flips of a file of blocks", 8 * whole.Length, 8 * (DiskFormat.HeaderBytes + (Blocks * Record)));
    }

    [Fact]
    public async Task After_a_power_loss_every_block_that_is_read_is_whole()
    {
        int images = FaultTally.Slice(500, 50_000);
        long read = 0, missed = 0;
        for (int seed = 0; seed < images; seed++)
        {
            var random = new Random(seed);
            var disk = new MemoryDisk();
            using (KvDiskTier tier = Open(disk, 5000))
            {
                for (int i = 0; i < 20; i++)
                {
                    await tier.PutAsync(Length * (1 + (i % 2)), (10 * (i % 2)) + random.Next(10));
                }
            }

            // Twice: what is written after the first loss comes over what that one tore.
            for (int loss = 0; loss < 2; loss++)
            {
                disk = disk.AfterPowerLoss(random);
                using KvDiskTier tier = Open(disk, 5000);
                for (int i = 0; i < 20; i++)
                {
                    int found = await tier.GetAsync(Length * (1 + (i / 10)), i);
                    (read, missed) = (read + found, missed + 1 - found);
                }

                await tier.PutAsync(Length, 0, 1, 2);
                Assert.Equal(3, await tier.GetAsync(Length, 0, 1, 2));
            }
        }

        output.WriteLine($"{read} blocks read, {missed} missed");
        Assert.InRange(read, images, long.MaxValue);
        FaultTally.Report(output, "power losses of a disk tier", missed, images);
    }

    private static KvDiskTier Open(MemoryDisk disk, long limit = 1 << 20) => new(Folder, limit, new FaultFiles(disk), 1);

    private static async Task<byte[]> WrittenAsync()
    {
        var disk = new MemoryDisk();
        using KvDiskTier tier = Open(disk);
        await tier.PutAsync(Length, [.. Enumerable.Range(0, Blocks)]);
        return disk.Find(Folder)!.Find(FileName)!.ToArray();
    }

    private static async Task ServesAsync(byte[] bytes, IEnumerable<int> expected, string where)
    {
        var disk = new MemoryDisk();
        disk.Make(Folder);
        var file = new DiskFile();
        file.Replace(bytes);
        disk.Find(Folder)!.Set(FileName, file);
        using KvDiskTier tier = Open(disk);
        int[] held = await tier.HeldAsync(Length, Enumerable.Range(0, Blocks));
        Assert.True(held.SequenceEqual(expected), $"{where}: {string.Join(", ", held)}");

        // What is missing can be written, and everything is there then.
        await tier.PutAsync(Length, [.. Enumerable.Range(0, Blocks)]);
        Assert.Equal(Blocks, await tier.GetAsync(Length, [.. Enumerable.Range(0, Blocks)]));
    }
}
