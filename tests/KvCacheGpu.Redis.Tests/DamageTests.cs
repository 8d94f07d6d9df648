using static KvCacheGpu.Redis.Tests.Blocks;

namespace KvCacheGpu.Redis.Tests;

/// <summary>Values that nobody wrote so are misses, told as damage, and make room for what should be there.</summary>
public sealed class DamageTests
{
    private const int Length = 1000;

    public static TheoryData<string, byte[]> Damages => new()
    {
        { "empty", [] },
        { "one byte", [1] },
        { "no block", [1, 0] },
        { "a byte missing", [1, 0, .. new byte[Length - 1]] },
        { "a byte more", [1, 0, .. new byte[Length + 1]] },
        { "another version", [2, 0, .. new byte[Length]] },
        { "encrypted, it says", [1, 1, .. new byte[Length]] },
        { "large", new byte[3_000_000] },
    };

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task A_value_that_is_no_block_is_a_miss_and_goes_away(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { BreakAfter = 1 });
        BlockHash[] keys = Keys("damage", 3);
        int errors = 0;
        foreach ((string what, byte[] value) in Damages.Select(row => ((string)row[0], (byte[])row[1])))
        {
            await WriteAsync(tier, keys, Length);
            await server.Database.StringSetAsync($"{server.Prefix}{keys[1]}", value);
            await CheckAsync(what);
        }

        // Garnet tells of another type only where one GET is under way; with several it is a miss like any other, and a write replaces the value all the same.
        await WriteAsync(tier, keys, Length);
        foreach (bool isReadFirst in new[] { variable != "KVCACHE_TEST_GARNET", false })
        {
            await server.Database.KeyDeleteAsync($"{server.Prefix}{keys[1]}");
            await server.Database.ListLeftPushAsync($"{server.Prefix}{keys[1]}", "an item");
            if (isReadFirst)
            {
                await CheckAsync("a list");
                continue;
            }

            Assert.Equal(1, await WriteAsync(tier, keys, Length));
            Assert.Equal(3, await ReadAsync(tier, keys, Length));
        }

        async Task CheckAsync(string what)
        {
            Assert.True(await ReadAsync(tier, keys, Length) == 1, what);
            Assert.Equal(++errors, tier.Counts.Errors);
            Assert.Contains("E004", tier.Counts.LastError, StringComparison.Ordinal);
            Assert.False(tier.IsOpen);
            await TestServer.UntilAsync(async () => !await server.Database.KeyExistsAsync($"{server.Prefix}{keys[1]}"), what);
            Assert.Equal(0, await ReadAsync(tier, keys[1..], Length));
            Assert.Equal(1, await WriteAsync(tier, keys, Length));
            Assert.Equal(3, await ReadAsync(tier, keys, Length));
        }
    }

    [Theory, OnRedis, OnCluster, OnGarnet]
    public async Task An_encrypted_block_is_read_with_its_key_under_its_name_or_not_at_all(string variable)
    {
        await using TestServer server = await TestServer.ConnectAsync(variable);
        byte[] otherSecret = [.. TierTests.Secret.Select(b => (byte)(b + 1))];
        await using KvRedisTier tier = await server.TierAsync(server.Options() with { EncryptionKey = TierTests.Secret });
        await using KvRedisTier other = await server.TierAsync(server.Options() with { EncryptionKey = otherSecret }), plain = await server.TierAsync();
        BlockHash[] keys = Keys("secret", 2);
        Assert.Equal(2, await WriteAsync(tier, keys, Length));
        BlockFrame frame = new(server.Prefix, TierTests.Secret);
        string[] names = [frame.KeyOf(keys[0]), frame.KeyOf(keys[1])];
        byte[][] values = [(await server.Database.StringGetAsync(names[0]))!, (await server.Database.StringGetAsync(names[1]))!];
        Assert.All(values, value => Assert.Equal(Length + 30, value.Length));
        Assert.Equal(-1, values[0].AsSpan().IndexOf(Of(keys[0], 8)));

        // Without the key, or with another one, there is nothing, and each has blocks of its own.
        Assert.Equal(0, await ReadAsync(other, keys, Length));
        Assert.Equal(0, await ReadAsync(plain, keys, Length));
        Assert.Equal(2, await WriteAsync(other, keys, Length));
        Assert.Equal(2, await ReadAsync(tier, keys, Length));

        // The bytes of another key's value under this one's name.
        byte[] foreign = (await server.Database.StringGetAsync(new BlockFrame(server.Prefix, otherSecret).KeyOf(keys[0])))!;
        foreach (byte[] wrong in new[] { foreign, values[1], Flipped(values[0], 5), Flipped(values[0], 20), Flipped(values[0], Length) })
        {
            await server.Database.StringSetAsync(names[0], wrong);
            Assert.Equal(0, await ReadAsync(tier, keys, Length));
            Assert.Contains("E004", tier.Counts.LastError, StringComparison.Ordinal);
            await TestServer.UntilAsync(async () => !await server.Database.KeyExistsAsync(names[0]), "a tampered value that goes away");
            Assert.Equal(1, await WriteAsync(tier, keys, Length));
            Assert.Equal(2, await ReadAsync(tier, keys, Length));
        }

        // Nonces are never the same.
        Assert.NotEqual(values[0], (byte[]?)await server.Database.StringGetAsync(names[0]));
    }

    [Fact]
    public void Every_bit_and_every_length_of_an_encrypted_value_is_checked()
    {
        BlockFrame frame = new("p:", TierTests.Secret);
        BlockHash key = Keys("bits", 1)[0];
        string name = frame.KeyOf(key);
        byte[] block = Of(key, 64), value = new byte[64 + frame.Overhead], room = new byte[64];
        frame.Close(name, block, value);
        Assert.True(frame.TryOpen(name, value, room));
        Assert.Equal(block, room);
        for (int bit = 0; bit < value.Length * 8; bit++)
        {
            byte[] flipped = [.. value];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(frame.TryOpen(name, flipped, room), $"bit {bit}");
        }

        for (int length = 0; length < value.Length; length++)
        {
            Assert.False(frame.TryOpen(name, value.AsSpan(0, length), room), $"{length} bytes");
        }

        Assert.False(frame.TryOpen(frame.KeyOf(Keys("bits", 2)[1]), value, room));
        Assert.False(new BlockFrame("q:", TierTests.Secret).TryOpen(name.Replace("p:", "q:", StringComparison.Ordinal), value, room));
    }

    private static byte[] Flipped(byte[] value, int at)
    {
        byte[] copy = [.. value];
        copy[at] ^= 1;
        return copy;
    }
}
