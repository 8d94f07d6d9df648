using System.Diagnostics;
using StackExchange.Redis;
using static KvCacheGpu.Redis.Tests.Blocks;

namespace KvCacheGpu.Redis.Tests;

/// <summary>A server that is not there, goes away, or hangs: misses within the deadline, then at once.</summary>
public sealed class OutageTests
{
    private const int Length = 100_000;
    private static readonly TimeSpan Deadline = TimeSpan.FromMilliseconds(200);

    // What no call may take, however busy the machine is.
    private static readonly TimeSpan Slack = 20 * Deadline;

    // Port 1 of the loopback: nothing listens there.
    [Theory]
    [InlineData("redis://somebody:s3cret-word@127.0.0.1:1")]
    [InlineData("127.0.0.1:1,127.0.0.1:2,password=s3cret-word")]
    [InlineData("redis://s3cret-word@no-such-host.invalid")]
    public async Task A_server_that_is_not_there_is_a_miss_and_is_left_alone(string address)
    {
        await using KvRedisTier tier = new(address, new KvRedisTierOptions { BreakAfter = 4, BreakFor = TimeSpan.FromHours(1), Deadline = Deadline });
        BlockHash[] keys = Keys("nowhere", 3);
        for (int i = 0; i < 4; i++)
        {
            Assert.False(tier.IsOpen);
            Assert.Equal(0, await WithinAsync(i % 2 == 0 ? ReadAsync(tier, keys, Length) : WriteAsync(tier, keys, Length).AsTask()));
        }

        Assert.True(tier.IsOpen);
        Assert.Equal(4, tier.Counts.Errors);
        Assert.DoesNotContain("s3cret", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(0, await ReadAsync(tier, keys, Length));
        Assert.Equal(0, await WriteAsync(tier, keys, Length));
        Assert.Equal((4, 9, 2), (tier.Counts.Errors, tier.Counts.Missed, tier.CallsRefused));
        Assert.Null(await tier.PingAsync(TimeSpan.FromMilliseconds(1)));
    }

    [RedisFaultFact]
    public async Task A_server_that_comes_later_is_found()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        TestServer.Kill((await server.ProcessesAsync())[0]);
        await using KvRedisTier tier = new(server.Address, server.Options() with { BreakFor = Deadline, Deadline = Deadline });
        BlockHash[] keys = Keys("later", 3);
        await TestServer.UntilAsync(async () => await ReadAsync(tier, keys, Length) == 0 && tier.IsOpen, "a server that is left alone");
        server.Restart();
        await TestServer.UntilAsync(async () => await WriteAsync(tier, keys, Length) == 3, "a server that has come");
        Assert.False(tier.IsOpen);
    }

    [RedisFaultFact]
    public async Task A_server_that_is_killed_is_a_miss_then_left_alone_then_found_again()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        KvRedisTierOptions options = server.Options() with { BreakAfter = 3, BreakFor = Deadline, Deadline = Deadline };
        // A host's connection that keeps commands for a server that is down, as it does by default.
        ConfigurationOptions hosts = ConfigurationOptions.Parse(server.Address["redis://".Length..]);
        (hosts.BacklogPolicy, hosts.HeartbeatInterval, hosts.ReconnectRetryPolicy) = (BacklogPolicy.Default, Deadline, new LinearRetry(100));
        await using ConnectionMultiplexer host = await ConnectionMultiplexer.ConnectAsync(hosts);
        await using KvRedisTier own = await server.TierAsync(options), borrowed = new(host, options);
        BlockHash[] keys = Keys("killed", 3);
        foreach (KvRedisTier tier in new[] { own, borrowed })
        {
            await TestServer.UntilAsync(async () => await WriteAsync(own, keys, Length) + await ReadAsync(tier, keys, Length) >= 3, "blocks before");
            TestServer.Kill((await server.ProcessesAsync())[0]);
            for (int i = 0; !tier.IsOpen; i++)
            {
                Assert.InRange(i, 0, 3);
                Assert.Equal(0, await WithinAsync(ReadAsync(tier, keys, Length)));
            }

            long refused = tier.CallsRefused;
            await TestServer.UntilAsync(async () => await ReadAsync(tier, keys, Length) == 0 && tier.CallsRefused > refused, "a call that is not made");
            Assert.True(tier.IsOpen);
            server.Restart();
            await TestServer.UntilAsync(async () => await WriteAsync(tier, keys, Length) == 3, "a server that is back, empty");
            Assert.Equal(3, await ReadAsync(tier, keys, Length));
            Assert.False(tier.IsOpen);
            await TestServer.UntilAsync(async () => server.Connection.IsConnected && (await server.ProcessesAsync()).Length > 0, "the test's own connection");
        }
    }

    [RedisFaultFact]
    public async Task A_server_that_hangs_is_a_miss_within_the_deadline()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        // More than sockets and buffers on the way take.
        const int large = 4 << 20;
        KvRedisTierOptions options = server.Options() with { BreakAfter = 3, BreakFor = Deadline, Deadline = Deadline, MostBytesAtOnce = 64 << 20 };
        await using KvRedisTier tier = await server.TierAsync(options);
        BlockHash[] keys = Keys("hangs", 3), others = Keys("hangs too", 8);
        await TestServer.UntilAsync(async () => await WriteAsync(tier, keys, Length) + await ReadAsync(tier, keys, Length) >= 3, "blocks before");
        int process = (await server.ProcessesAsync())[0];
        byte[] mine = Of(others, large);
        TestServer.Signal(process, "STOP");
        try
        {
            long began = Stopwatch.GetTimestamp();
            Assert.Equal(0, await WithinAsync(ReadAsync(tier, keys, Length)));
            Assert.True(Stopwatch.GetElapsedTime(began) > Deadline / 2, "it waited for the server");
            Assert.Contains("within 200 ms", tier.Counts.LastError, StringComparison.Ordinal);
            Assert.Equal(0, await WithinAsync(tier.WriteAsync(others, mine).AsTask()));
            Assert.Equal(0, await WithinAsync(ReadAsync(tier, keys, Length)));
            Assert.True(tier.IsOpen);

            // One call asks again, and a caller that gives up leaves that to the next.
            using CancellationTokenSource cancel = new();
            await TestServer.UntilAsync(
                async () =>
                {
                    ValueTask<int> call = tier.ReadAsync(keys, new byte[3 * Length], cancel.Token);
                    if (call.IsCompleted)
                    {
                        return await call != 0;
                    }

                    await cancel.CancelAsync();
                    await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await call);
                    return true;
                },
                "a probe");
            Assert.True(tier.IsOpen);
        }
        finally
        {
            TestServer.Signal(process, "CONT");
        }

        await TestServer.UntilAsync(async () => await ReadAsync(tier, keys, Length) == 3, "a server that goes on");
        Assert.False(tier.IsOpen);
    }

    [RedisFaultFact]
    public async Task What_is_sent_late_is_what_was_given()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { Deadline = 10 * Deadline, MostBytesAtOnce = 64 << 20 });
        const int large = 1 << 20;
        // Several callers at once: commands of one wait for those of another before they are made into bytes.
        BlockHash[][] keys = [.. Enumerable.Range(0, 6).Select(i => Keys($"late {i}", 4))];
        byte[][] mine = [.. keys.Select(some => Of(some, large))];
        // The server tells lengths, and takes no blocks.
        await server.Database.ExecuteAsync("CLIENT", "PAUSE", "60000", "WRITE");
        Task<int>[] calls = [.. keys.Zip(mine, (some, blocks) => Task.Run(async () => await tier.WriteAsync(some, blocks)))];
        foreach (Task<int> call in calls)
        {
            Assert.Equal(0, await WithinAsync(call));
        }

        Assert.Equal(calls.Length, tier.Counts.Errors);
        Array.ForEach(mine, blocks => Array.Fill(blocks, (byte)0xFF));
        await server.Database.ExecuteAsync("CLIENT", "UNPAUSE");
        await using KvRedisTier reader = await server.TierAsync();
        // The answer to what is asked last says that all before it was done.
        Assert.NotNull(await tier.PingAsync(TestServer.Long));
        int read = 0;
        foreach (BlockHash[] some in keys)
        {
            read += await ReadAsync(reader, some, large);
        }

        Assert.InRange(read, 6, 24);
    }

    [RedisFaultFact]
    public async Task Disposing_does_not_wait_for_a_server_that_hangs()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS");
        KvRedisTier tier = await server.TierAsync(server.Options() with { Deadline = Deadline });
        BlockHash[] keys = Keys("end", 3);
        int process = (await server.ProcessesAsync())[0];
        TestServer.Signal(process, "STOP");
        try
        {
            await WriteAsync(tier, keys, Length);
            KvRedisTier unmade = new(server.Address, server.Options());
            await WithinAsync(Task.Run(async () =>
            {
                tier.Dispose();
                await unmade.DisposeAsync();
                return 0;
            }));
        }
        finally
        {
            TestServer.Signal(process, "CONT");
        }

        await TestServer.UntilAsync(async () => await server.Database.PingAsync() >= TimeSpan.Zero, "the server");
    }

    [ClusterFaultFact]
    public async Task Without_a_node_the_blocks_of_the_others_are_read()
    {
        await using TestServer server = await TestServer.ConnectAsync("KVCACHE_TEST_REDIS_CLUSTER");
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { BreakAfter = 1000 });
        BlockHash[] keys = Keys("node", 60);
        Assert.Equal(60, await WriteAsync(tier, keys, 1000));
        TestServer.Kill((await server.ProcessesAsync())[0]);
        try
        {
            List<BlockHash> there = [], gone = [];
            foreach (BlockHash key in keys)
            {
                (await ReadAsync(tier, [key], 1000) == 1 ? there : gone).Add(key);
            }

            Assert.InRange(there.Count, 20, 59);
            Assert.Equal(2, await ReadAsync(tier, [there[0], there[1], gone[0], there[2]], 1000));

            // Who answers for some blocks is not left alone.
            await using KvRedisTier strict = await server.TierAsync(server.Options() with { BreakAfter = 1 });
            Assert.Equal(1, await ReadAsync(strict, [there[0], gone[0]], 1000));
            Assert.Equal((1, false), (strict.Counts.Errors, strict.IsOpen));
            Assert.Equal(0, await ReadAsync(strict, [gone[0], there[0]], 1000));
            Assert.Equal((2, true), (strict.Counts.Errors, strict.IsOpen));
        }
        finally
        {
            server.Restart();
        }

        await TestServer.UntilAsync(async () => await WriteAsync(tier, keys, 1000) + await ReadAsync(tier, keys, 1000) >= 60, "all nodes");
    }

    private static async Task<int> WithinAsync(Task<int> call, TimeSpan? most = null)
    {
        Assert.Same(call, await Task.WhenAny(call, Task.Delay(most ?? Slack)));
        return await call;
    }
}
