using System.Runtime.InteropServices;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>Many threads read and write one tier while blocks are dropped: what is read is right, and counts add up.</summary>
public sealed class TierThreadTests(ITestOutputHelper output) : IDisposable
{
    private const int Threads = 6;
    private const int Calls = 3_000;
    private const int Numbers = 120;
    private const long Limit = 200_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-threads-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("host")]
    [InlineData("disk")]
    public async Task Reads_and_writes_beside_each_other_are_right_and_add_up(string name)
    {
        KvTier tier = name == "host" ? new KvHostTier(Limit) : new KvDiskTier(Path.Combine(_folder, "tier"), Limit);
        using var owned = (IDisposable)tier;
        (long Asked, long Read, long Written)[] sums = await Task.WhenAll(Enumerable.Range(0, Threads).Select(thread => Task.Run(() => CallsAsync(tier, new Random(thread), Calls))));
        KvTierCounts counts = tier.Counts;
        output.WriteLine($"{counts}");
        Assert.Equal((sums.Sum(sum => sum.Read), sums.Sum(sum => sum.Asked - sum.Read), sums.Sum(sum => sum.Written)), (counts.Read, counts.Missed, counts.Written));
        Assert.Equal((0, null), (counts.Errors, counts.LastError));
        Assert.InRange(counts.Read, 1000, long.MaxValue);
        Assert.InRange(counts.Missed, 1000, long.MaxValue);
        Assert.InRange(counts.BytesWritten, 10 * Limit, long.MaxValue);
        Assert.InRange(tier.BytesInUse!.Value, 1, Limit);

        // Nothing is held any longer: all of it can go.
        int[] fresh = [.. Enumerable.Range(Numbers * 10, 18)];
        Assert.Equal(fresh.Length, await tier.PutAsync(10_000, fresh));
        Assert.Equal(fresh.Length, await tier.GetAsync(10_000, fresh));
    }

    [Theory]
    [InlineData("host")]
    [InlineData("disk")]
    public async Task A_tier_that_is_disposed_under_calls_lets_them_end(string name)
    {
        long live = 0;
        for (int round = 0; round < 20; round++)
        {
            KvTier tier = name == "disk" ? new KvDiskTier(Path.Combine(_folder, "tier"), Limit) : new KvHostTier(Limit, new HostMemory(
                bytes =>
                {
                    Interlocked.Add(ref live, 1);
                    return Marshal.AllocHGlobal(bytes);
                },
                memory =>
                {
                    Interlocked.Add(ref live, -1);
                    Marshal.FreeHGlobal(memory);
                }));
            Task[] calls = [.. Enumerable.Range(0, Threads).Select(thread => Task.Run(() => CallsAsync(tier, new Random(thread), 60)))];
            while (tier.Counts.Written < 20)
            {
                await Task.Yield();
            }

            ((IDisposable)tier).Dispose();
            await Task.WhenAll(calls);
            Assert.Equal((0, 0), (await tier.GetAsync(100, 1), await tier.PutAsync(100, 1)));
            Assert.Equal(0, Interlocked.Read(ref live));
        }
    }

    [Fact]
    public async Task A_read_has_its_bytes_though_the_tier_is_disposed_meanwhile()
    {
        const int Length = 8 << 20;
        BlockHash[] keys = TierBlocks.Keys(1);
        byte[] block = new byte[Length], poison = new byte[Length];
        block.AsSpan().Fill(0x11);
        poison.AsSpan().Fill(0xDB);
        for (int round = 0; round < 20; round++)
        {
            List<nint> freed = [];
            var tier = new KvHostTier(Length, new HostMemory(Marshal.AllocHGlobal, memory =>
            {
                Marshal.Copy(poison, 0, memory, Length);
                freed.Add(memory);
            }));
            Assert.Equal(1, await tier.WriteAsync(keys, block));
            using var isRead = new ManualResetEventSlim();
            var reading = Task.Run(async () =>
            {
                byte[] found = new byte[Length];
                while (await tier.ReadAsync(keys, found) == 1)
                {
                    Assert.Equal(-1, found.AsSpan().IndexOfAnyExcept((byte)0x11));
                    isRead.Set();
                }
            });
            isRead.Wait();
            Thread.SpinWait(round * 1_000);
            tier.Dispose();
            await reading;
            Marshal.FreeHGlobal(Assert.Single(freed));
        }
    }

    private static async Task<(long Asked, long Read, long Written)> CallsAsync(KvTier tier, Random random, int calls)
    {
        (long asked, long read, long written) = (0, 0, 0);
        for (int i = 0; i < calls; i++)
        {
            int first = random.Next(Numbers), count = random.Next(1, 5);
            int length = first % 3 == 0 ? 1_500 : 4_000;

            // A number names blocks of one length.
            int[] run = [.. Enumerable.Range(0, count).Select(k => first + (k * Numbers))];
            if (random.Next(2) == 0)
            {
                written += await tier.PutAsync(length, run);
            }
            else
            {
                asked += count;
                read += await tier.GetAsync(length, run);
            }
        }

        return (asked, read, written);
    }
}
