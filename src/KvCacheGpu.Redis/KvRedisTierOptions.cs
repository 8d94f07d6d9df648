using System.Globalization;

namespace KvCacheGpu;

/// <summary>
/// Options of a <see cref="KvRedisTier"/>. They are checked when the tier is made: a value that is out of its range is refused with
/// <see cref="KvConfigurationException"/> (E003), which names the member.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KvRedisTierOptions
{
    /// <summary>Bytes of an <see cref="EncryptionKey"/>.</summary>
    public const int EncryptionKeyBytes = 32;

    private const int MostPrefix = 512;

    /// <summary>
    /// What the names of all keys begin with: at most 512 characters without control characters. Caches that use the same server with another prefix see nothing of
    /// each other. The default value is "kvcache:".
    /// </summary>
    public string KeyPrefix { get; init; } = "kvcache:";

    /// <summary>
    /// The longest that a call waits for the server, however many blocks it is for, 1 millisecond to 1 minute. What has not come by then is a miss. The default value is 50
    /// milliseconds.
    /// </summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>
    /// How long the server keeps a block after it was written, at least 1 millisecond; reading does not renew it. The default value is null: until the server needs the
    /// room (its <c>maxmemory-policy</c>).
    /// </summary>
    public TimeSpan? TimeToLive { get; init; }

    /// <summary>
    /// A key of 32 random bytes for AES-256-GCM, which then encrypts every block and ties it to its name. All processes that share blocks need the same key; those
    /// with another one see nothing of each other. The tier keeps a copy. The default value is null: blocks lie on the server as they are.
    /// </summary>
    public ReadOnlyMemory<byte>? EncryptionKey { get; init; }

    /// <summary>
    /// Calls that fail one after the other until the server is left alone for <see cref="BreakFor"/>, 1 to 1000. The default value is 5.
    /// </summary>
    public int BreakAfter { get; init; } = 5;

    /// <summary>
    /// How long a server that failed is left alone, 1 millisecond to 1 hour: calls are misses at once. Then one call asks it again. The default value is 1 second.
    /// </summary>
    public TimeSpan BreakFor { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Bytes of blocks that a call has under way at once, 1 to 2^30; one block always is. More of them wait less for the network, and take as much memory. The default
    /// value is 8 MiB.
    /// </summary>
    public int MostBytesAtOnce { get; init; } = 8 << 20;

    /// <summary>Checks every option.</summary>
    /// <exception cref="KvConfigurationException">E003: one is out of its range.</exception>
    internal KvRedisTierOptions Check()
    {
        Require(KeyPrefix is { Length: <= MostPrefix }, nameof(KeyPrefix), $"a text of at most {MostPrefix} characters", KeyPrefix is null ? "null" : $"{KeyPrefix.Length}");
        // The text of the key is authenticated with the block: two prefixes must not become the same bytes.
        Require(!KeyPrefix!.Any(c => char.IsControl(c) || char.IsSurrogate(c)), nameof(KeyPrefix), "no control characters and no surrogates", "one");
        RequireTime(Deadline, nameof(Deadline), TimeSpan.FromMinutes(1));
        RequireTime(BreakFor, nameof(BreakFor), TimeSpan.FromHours(1));
        Require(TimeToLive is null || TimeToLive >= TimeSpan.FromMilliseconds(1), nameof(TimeToLive), "at least 1 millisecond, or null", TimeToLive);
        Require(EncryptionKey is null or { Length: EncryptionKeyBytes }, nameof(EncryptionKey), $"{EncryptionKeyBytes} bytes, or null", $"{EncryptionKey?.Length} bytes");
        Require(BreakAfter is >= 1 and <= 1000, nameof(BreakAfter), "1..1000", BreakAfter);
        Require(MostBytesAtOnce is >= 1 and <= 1 << 30, nameof(MostBytesAtOnce), "1..1073741824", MostBytesAtOnce);
        return this;
    }

    private static void RequireTime(TimeSpan time, string option, TimeSpan most) =>
        Require(time >= TimeSpan.FromMilliseconds(1) && time <= most, option, $"1 millisecond to {most.TotalMilliseconds.ToString(CultureInfo.InvariantCulture)}", time);

    private static void Require(bool holds, string option, string expected, object? actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException(option, expected, string.Create(CultureInfo.InvariantCulture, $"{actual}"));
        }
    }
}
