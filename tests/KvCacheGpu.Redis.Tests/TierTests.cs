using StackExchange.Redis;
using static KvCacheGpu.Redis.Tests.Blocks;

namespace KvCacheGpu.Redis.Tests;

/// <summary>What is written is read, by whoever names the same blocks.</summary>
public sealed class TierTests
{
    private const int Length = 10_000;

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Blocks_come_back_bit_for_bit_and_to_other_processes(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier one = await server.TierAsync(), other = await server.TierAsync();
        BlockHash[] keys = Keys("run", 60);
        Assert.Equal(0, await ReadAsync(one, keys, Length));
        Assert.Equal(60, await WriteAsync(one, keys, Length));
        Assert.Equal(60, await ReadAsync(one, keys, Length));
        Assert.Equal(60, await ReadAsync(other, keys, Length));
        Assert.Equal(new KvTierCounts(60, 60, 60, 60 * Length, 60 * Length, 0, null), one.Counts);
        Assert.Equal(("redis", null, null), (one.Name, one.BytesInUse, one.BytesLimit));
        Assert.False(one.IsOpen);
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task A_run_ends_at_the_first_block_that_is_not_there(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync();
        BlockHash[] keys = Keys("run", 40);
        Assert.Equal(25, await WriteAsync(tier, keys[..25], Length));
        Assert.Equal(14, await WriteAsync(tier, keys[26..], Length));
        Assert.Equal(25, await ReadAsync(tier, keys, Length));
        Assert.Equal(1, await WriteAsync(tier, keys, Length));
        Assert.Equal(40, await ReadAsync(tier, keys, Length));
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Blocks_of_any_length_pass_through_any_window(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        foreach ((int length, int count, int most) in new[] { (1, 300, 1), (33, 100, 100), (1 << 20, 12, 8 << 20), (3_000_000, 3, 1), (70_001, 30, 200_000) })
        {
            foreach (ReadOnlyMemory<byte>? secret in new ReadOnlyMemory<byte>?[] { null, Secret })
            {
                await using KvRedisTier tier = await server.TierAsync(server.Options() with { MostBytesAtOnce = most, EncryptionKey = secret });
                BlockHash[] keys = Keys($"{length}", count);
                Assert.Equal(count, await WriteAsync(tier, keys, length));
                Assert.Equal(count, await ReadAsync(tier, keys, length));
                Assert.Null(tier.Counts.LastError);
            }
        }
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task A_block_that_is_there_is_not_sent_again(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync();
        BlockHash[] keys = Keys("again", 5);
        await WriteAsync(tier, keys, Length);
        // Only who sends it again changes this byte back.
        await server.Database.StringSetRangeAsync($"{server.Prefix}{keys[3]}", 100, "!");
        Assert.Equal(0, await WriteAsync(tier, keys, Length));
        Assert.Equal("!", await server.Database.StringGetRangeAsync($"{server.Prefix}{keys[3]}", 100, 100));
        Assert.Equal(5, tier.Counts.Written);
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Another_length_is_a_miss_and_is_replaced_by_a_write(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync();
        BlockHash[] keys = Keys("length", 2);
        await WriteAsync(tier, keys, Length);
        Assert.Equal(2, await WriteAsync(tier, keys, Length + 1));
        Assert.Equal(2, await ReadAsync(tier, keys, Length + 1));
        Assert.Equal(0, await ReadAsync(tier, keys, Length));
        Assert.Contains("E004", tier.Counts.LastError, StringComparison.Ordinal);
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Another_prefix_sees_nothing(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync(), other = await server.TierAsync(server.Options() with { KeyPrefix = server.Prefix + "b:" });
        BlockHash[] keys = Keys("prefix", 3);
        await WriteAsync(tier, keys, Length);
        Assert.Equal(0, await ReadAsync(other, keys, Length));
        Assert.Equal(0, other.Counts.Errors);
        Assert.Equal(3, await WriteAsync(other, keys, Length));
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Blocks_live_as_long_as_they_may(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        BlockHash[] keys = Keys("time", 3);
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { TimeToLive = TimeSpan.FromHours(1) }), forever = await server.TierAsync();
        await WriteAsync(tier, keys[..1], Length);
        await WriteAsync(forever, keys[1..2], Length);
        TimeSpan left = (await server.Database.KeyTimeToLiveAsync($"{server.Prefix}{keys[0]}"))!.Value;
        Assert.InRange(left, TimeSpan.FromMinutes(30), TimeSpan.FromHours(1));
        Assert.Null(await server.Database.KeyTimeToLiveAsync($"{server.Prefix}{keys[1]}"));

        await using KvRedisTier brief = await server.TierAsync(server.Options() with { TimeToLive = TimeSpan.FromMilliseconds(300) });
        Assert.Equal(1, await WriteAsync(brief, keys[2..], Length));
        await TestServer.UntilAsync(async () => await ReadAsync(brief, keys[2..], Length) == 0, "a block that expires");
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task Many_threads_use_one_tier(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { EncryptionKey = Secret });
        BlockHash[] keys = Keys("threads", 32);
        await Task.WhenAll(Enumerable.Range(0, 12).Select(worker => Task.Run(async () =>
        {
            for (int i = 0; i < 20; i++)
            {
                int first = ((worker * 7) + i) % 28;
                if (worker % 3 == 0)
                {
                    await WriteAsync(tier, keys[first..(first + 4)], Length);
                }
                else
                {
                    await ReadAsync(tier, keys[first..(first + 4)], Length);
                }
            }
        })));
        await WriteAsync(tier, keys, Length);
        Assert.Equal(32, await ReadAsync(tier, keys, Length));
        Assert.Equal(0, tier.Counts.Errors);
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task A_hosts_connection_stays_open(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        BlockHash[] keys = Keys("host", 3);
        KvRedisTier tier = new(server.Connection, server.Options());
        Assert.Equal(3, await WriteAsync(tier, keys, Length));
        Assert.Equal(3, await ReadAsync(tier, keys, Length));
        await tier.DisposeAsync();
        Assert.Equal(0, await ReadAsync(tier, keys, Length));
        Assert.True(await server.Database.KeyExistsAsync($"{server.Prefix}{keys[0]}"));
        using KvRedisTier next = new(server.Connection, server.Options());
        Assert.Equal(3, await ReadAsync(next, keys, Length));
    }

    [Theory, OnCluster]
    public async Task Keys_of_a_run_lie_on_all_nodes(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync();
        await WriteAsync(tier, Keys("nodes", 60), 100);
        IServer[] nodes = server.Connection.GetServers();
        Assert.Equal(3, nodes.Length);
        Assert.All(nodes, node => Assert.NotEmpty(node.Keys(pattern: $"{server.Prefix}*")));
    }

    internal static byte[] Secret { get; } = [.. Enumerable.Range(1, 32).Select(i => (byte)i)];
}
