using System.Diagnostics;
using System.Globalization;
using Xunit.Abstractions;
using static KvCacheGpu.Redis.Tests.Blocks;

namespace KvCacheGpu.Redis.Tests;

/// <summary>Redis is killed at random moments while tiers read and write: no wrong byte, no error, no wait. KVCACHE_SOAK multiplies the rounds.</summary>
public sealed class KillTests(ITestOutputHelper output)
{
    private const int Length = 64 << 10;
    private const int Rounds = 40;
    private static readonly TimeSpan Deadline = TimeSpan.FromMilliseconds(100);

    [RedisFaultFact]
    public async Task Whoever_reads_and_writes_while_Redis_is_killed_sees_right_blocks_or_none()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        string? soak = Environment.GetEnvironmentVariable("KVCACHE_SOAK");
        int rounds = Rounds * (int.TryParse(soak, NumberStyles.None, CultureInfo.InvariantCulture, out int factor) ? Math.Max(1, factor) : 1);
        KvRedisTierOptions options = server.Options() with { Deadline = Deadline, BreakFor = TimeSpan.FromMilliseconds(50), MostBytesAtOnce = 4 * Length };
        await using KvRedisTier plain = await server.TierAsync(options), other = await server.TierAsync(options);
        await using KvRedisTier secret = await server.TierAsync(options with { EncryptionKey = TierTests.Secret });
        using CancellationTokenSource stop = new();
        Worker[] workers = [.. new[] { plain, other, secret }.SelectMany((tier, i) => new Worker[] { new(tier, i, false), new(tier, 10 + i, true) })];
        Worker[] readers = [.. workers.Where(worker => !worker.IsWriter)];
        Task[] running = [.. workers.Select(worker => Task.Run(() => worker.RunAsync(stop.Token)))];
        Late late = new();
        Task lateness = Task.Run(() => late.RunAsync(stop.Token));
        Random random = new(20_261_129);
        int process = (await server.ProcessesAsync())[0];
        for (int round = 0; round < rounds; round++)
        {
            // In every round each tier finds the server again: it reads blocks that were written after the last kill.
            long[] before = [.. readers.Select(reader => reader.Blocks)];
            await TestServer.UntilAsync(
                () => Task.FromResult(running.Any(one => one.IsCompleted) || readers.Zip(before).All(pair => pair.First.Blocks > pair.Second)), $"blocks in round {round}");
            await Task.Delay(random.Next(30));
            TestServer.Kill(process);
            await Task.Delay(random.Next(30));
            server.Restart();
            await TestServer.UntilAsync(async () => await ProcessAsync() != process, "a new server");
            process = await ProcessAsync();
        }

        await stop.CancelAsync();
        await Task.WhenAll([.. running, lateness]);
        long read = readers.Sum(reader => reader.Blocks), written = workers.Where(worker => worker.IsWriter).Sum(worker => worker.Blocks);
        KvRedisTier[] tiers = [plain, other, secret];
        TimeSpan longest = workers.Max(worker => worker.Longest);
        output.WriteLine($"{rounds} kills: {read} blocks read, {written} written, {tiers.Sum(tier => tier.Counts.Errors)} errors, {tiers.Sum(tier => tier.CallsRefused)} calls not made");
        output.WriteLine($"longest call {longest.TotalMilliseconds:f0} ms, of a timer of {Deadline.TotalMilliseconds} ms {late.Longest.TotalMilliseconds:f0} ms");
        Assert.True(longest < late.Longest + (20 * Deadline), $"a call took {longest}");
        Assert.All(tiers, tier => Assert.InRange(tier.Counts.Errors, 1, long.MaxValue));

        async Task<int> ProcessAsync()
        {
            try
            {
                return (await server.ProcessesAsync())[0];
            }
            catch (StackExchange.Redis.RedisException)
            {
                return process;
            }
        }
    }

    // How late a timer is on a machine this busy.
    private sealed class Late
    {
        public TimeSpan Longest { get; private set; }

        public async Task RunAsync(CancellationToken stop)
        {
            while (!stop.IsCancellationRequested)
            {
                long began = Stopwatch.GetTimestamp();
                await Task.Delay(Deadline, CancellationToken.None);
                TimeSpan time = Stopwatch.GetElapsedTime(began);
                Longest = time > Longest ? time : Longest;
            }
        }
    }

    private sealed class Worker(KvRedisTier tier, int seed, bool isWriter)
    {
        private static readonly BlockHash[] Chain = Keys("kill", 64);
        private long _blocks;

        public bool IsWriter => isWriter;

        public long Blocks => Interlocked.Read(ref _blocks);

        public TimeSpan Longest { get; private set; }

        public async Task RunAsync(CancellationToken stop)
        {
            Random random = new(seed);
            byte[] room = new byte[8 * Length];
            while (!stop.IsCancellationRequested)
            {
                int first = random.Next(Chain.Length - 8), count = random.Next(1, 9);
                BlockHash[] keys = Chain[first..(first + count)];
                if (isWriter)
                {
                    Of(keys, Length).CopyTo(room, 0);
                }

                long began = Stopwatch.GetTimestamp();
                Memory<byte> part = room.AsMemory(0, count * Length);
                int done = isWriter ? await tier.WriteAsync(keys, part, CancellationToken.None) : await tier.ReadAsync(keys, part, CancellationToken.None);
                TimeSpan time = Stopwatch.GetElapsedTime(began);
                Longest = time > Longest ? time : Longest;
                if (isWriter)
                {
                    // The room is the caller's again: nothing that is still under way may see this.
                    Array.Fill(room, (byte)0xEE);
                }
                else
                {
                    Assert.True(room.AsSpan(0, done * Length).SequenceEqual(Of(keys[..done], Length)), "a wrong byte");
                }

                Interlocked.Add(ref _blocks, done);
                // While calls are not made they end at once; and there is always something to write.
                await Task.Delay(done == 0 ? 5 : 0, CancellationToken.None);
            }
        }
    }
}
