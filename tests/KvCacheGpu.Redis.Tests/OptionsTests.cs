using System.Net;
using StackExchange.Redis;

namespace KvCacheGpu.Redis.Tests;

/// <summary>Addresses and options: what is taken, and what is refused.</summary>
public sealed class OptionsTests
{
    public static TheoryData<string, KvRedisTierOptions> Refused => new()
    {
        { "KeyPrefix", new() { KeyPrefix = null! } },
        { "KeyPrefix", new() { KeyPrefix = new string('a', 513) } },
        { "KeyPrefix", new() { KeyPrefix = "a\nb" } },
        { "KeyPrefix", new() { KeyPrefix = "\ud800" } },
        { "Deadline", new() { Deadline = TimeSpan.Zero } },
        { "Deadline", new() { Deadline = Timeout.InfiniteTimeSpan } },
        { "Deadline", new() { Deadline = TimeSpan.FromSeconds(61) } },
        { "TimeToLive", new() { TimeToLive = TimeSpan.Zero } },
        { "EncryptionKey", new() { EncryptionKey = new byte[31] } },
        { "EncryptionKey", new() { EncryptionKey = Array.Empty<byte>() } },
        { "BreakAfter", new() { BreakAfter = 0 } },
        { "BreakAfter", new() { BreakAfter = 1001 } },
        { "BreakFor", new() { BreakFor = TimeSpan.Zero } },
        { "BreakFor", new() { BreakFor = TimeSpan.FromHours(2) } },
        { "MostBytesAtOnce", new() { MostBytesAtOnce = 0 } },
        { "MostBytesAtOnce", new() { MostBytesAtOnce = int.MaxValue } },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void An_option_out_of_its_range_is_E003(string setting, KvRedisTierOptions options)
    {
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => new KvRedisTier("redis://127.0.0.1:1", options));
        Assert.Equal(("E003", setting), (error.Code, error.Setting));
    }

    [Fact]
    public void Every_option_has_a_range_and_its_documented_default()
    {
        Assert.Equal(
            Refused.Select(row => (string)row[0]).Distinct().Order(StringComparer.Ordinal),
            typeof(KvRedisTierOptions).GetProperties().Select(one => one.Name).Order(StringComparer.Ordinal));
        KvRedisTierOptions options = new();
        Assert.Equal(("kvcache:", 50, null), (options.KeyPrefix, options.Deadline.TotalMilliseconds, options.TimeToLive));
        Assert.Equal((5, 1000, 8 << 20), (options.BreakAfter, options.BreakFor.TotalMilliseconds, options.MostBytesAtOnce));
        Assert.Null(options.EncryptionKey);
        Assert.DoesNotContain("7, 7", $"{options with { EncryptionKey = new byte[] { 7, 7 } }}", StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_documents_tier_is_made_without_a_server()
    {
        byte[] secret = new byte[32];
        await using var tier = new KvRedisTier("redis://127.0.0.1:1", new KvRedisTierOptions
        {
            KeyPrefix = "llama:",
            TimeToLive = TimeSpan.FromHours(6),
            EncryptionKey = secret,
        });
        Assert.Equal(0, tier.Counts.Errors);
    }

    [Theory]
    [InlineData("redis://cache.example", "cache.example:0", null, null, null, false)]
    [InlineData("redis://10.1.2.3:7000/4", "10.1.2.3:7000", null, null, 4, false)]
    [InlineData(" rediss://me:p%40ss@cache.example:6390/ ", "cache.example:6390", "me", "p@ss", null, true)]
    [InlineData("redis://:p%3Ass@cache.example", "cache.example:0", null, "p:ss", null, false)]
    [InlineData("REDIS://a:1,b:2,[::1]:3", "a:1 b:2 [::1]:3", null, null, null, false)]
    [InlineData("a:1,b:2,password=p,user=me,ssl=true,defaultDatabase=3", "a:1 b:2", "me", "p", 3, true)]
    public void An_address_is_read(string address, string points, string? user, string? password, int? database, bool isSecure)
    {
        ConfigurationOptions options = RedisAddress.Parse(address);
        Assert.Equal(points, string.Join(' ', options.EndPoints.Select(point => point is DnsEndPoint name ? $"{name.Host}:{name.Port}" : $"{point}")));
        Assert.Equal((user, password, database, isSecure), (options.User, options.Password, options.DefaultDatabase, options.Ssl));
        Assert.False(options.AbortOnConnectFail);
        Assert.Same(BacklogPolicy.FailFast, options.BacklogPolicy);
        Assert.Equal(TimeSpan.FromMilliseconds(250), options.HeartbeatInterval);
    }

    [Fact]
    public void What_an_address_says_itself_stays() => Assert.True(RedisAddress.Parse("a:1,abortConnect=true").AbortOnConnectFail);

    [Theory]
    [InlineData("")]
    [InlineData("  ")]
    [InlineData("postgres://me:s3cret@host/db")]
    [InlineData("redis://")]
    [InlineData("redis://me:s3cret@")]
    [InlineData("redis://me:s3c@ret@host")]
    [InlineData("redis://me:s3/cret@host")]
    [InlineData("redis://me:s3#cret@host")]
    [InlineData("redis://me:s3:cret@host")]
    [InlineData("redis://me:s3cret@host:port")]
    [InlineData("redis://me:s3cret@host/first")]
    [InlineData("redis://me:s3cret@host/1?timeout=3")]
    [InlineData("redis://me:s3cret@a:1,,b:2")]
    [InlineData("password=s3cret")]
    [InlineData("host,password=s3cret,connectTimeout=never")]
    [InlineData("host,s3cret=s3cret")]
    public void An_address_that_cannot_be_read_is_E003_and_is_not_repeated(string address)
    {
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => new KvRedisTier(address));
        Assert.Equal("E003", error.Code);
        Assert.DoesNotContain("s3", $"{error}", StringComparison.Ordinal);
        Assert.DoesNotContain("cret", $"{error}", StringComparison.Ordinal);
    }
}
