using System.Globalization;
using StackExchange.Redis;
using StackExchange.Redis.Configuration;

namespace KvCacheGpu;

/// <summary>
/// Reads where a server is: <c>redis://USER:PASSWORD@HOST:PORT/DATABASE</c>, with several hosts between commas for a cluster, <c>rediss://</c> for TLS, or a text of
/// StackExchange.Redis (<c>HOST:PORT,password=...</c>).
/// </summary>
internal static class RedisAddress
{
    private const string Expected = "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, or HOST:PORT,option=value";
    private const string Encoded = Expected + ", with %40 for @, %2F for /, %3A for : and %25 for % in a user or password";

    /// <summary>Reads an address. No message repeats it, nor any part that may belong to a password.</summary>
    /// <exception cref="KvConfigurationException">E003: it cannot be read.</exception>
    public static ConfigurationOptions Parse(string address)
    {
        ArgumentNullException.ThrowIfNull(address);
        string text = address.Trim();
        int scheme = text.IndexOf("://", StringComparison.Ordinal);
        if (scheme < 0)
        {
            return WithDefaults(FromText(text));
        }

        bool isSecure = text[..scheme].ToUpperInvariant() switch { "REDIS" => false, "REDISS" => true, _ => throw Wrong("another kind of address") };
        ConfigurationOptions options = FromUrl(text[(scheme + 3)..]);
        options.Ssl = isSecure;
        return WithDefaults(options);
    }

    private static ConfigurationOptions FromText(string text)
    {
        ConfigurationOptions options;
        try
        {
            options = ConfigurationOptions.Parse(text);
        }
        catch (Exception e) when (e is ArgumentException or FormatException or OverflowException)
        {
            // The inner error may repeat the text, and with it a password.
            throw Wrong(text.Length == 0 ? "an empty text, as of a variable that is not set" : "a text that cannot be read");
        }

        return options.EndPoints.Count > 0 ? options : throw Wrong("no host");
    }

    private static ConfigurationOptions FromUrl(string rest)
    {
        string[] parts = rest.Split('/');
        int at = parts[0].LastIndexOf('@');
        string[] user = at < 0 ? [] : parts[0][..at].Split(':');
        if (parts.Length > 2 || user.Length > 2 || user.Any(part => part.Contains('@', StringComparison.Ordinal)) || rest.AsSpan().ContainsAny("?#"))
        {
            throw Wrong("an address that cannot be read", Encoded);
        }

        // A lone part is the password in addresses without a user, as redis-cli takes them with the colon.
        ConfigurationOptions options = new()
        {
            User = user.Length == 2 && user[0].Length > 0 ? Uri.UnescapeDataString(user[0]) : null,
            Password = user.Length > 0 && user[^1].Length > 0 ? Uri.UnescapeDataString(user[^1]) : null,
        };
        foreach (string host in parts[0][(at + 1)..].Split(','))
        {
            if (EndPointCollection.TryParse(host) is not { } point || host.Trim().Length == 0)
            {
                throw Wrong("a host that cannot be read", Encoded);
            }

            options.EndPoints.Add(point);
        }

        if (parts.Length == 2 && parts[1].Length > 0)
        {
            options.DefaultDatabase = int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int database)
                ? database
                : throw Wrong("a database that is not a number", Encoded);
        }

        return options;
    }

    // What the text says stays as it is.
    private static ConfigurationOptions WithDefaults(ConfigurationOptions options)
    {
        options.Defaults = new TierDefaults();
        return options;
    }

    private static KvConfigurationException Wrong(string actual, string expected = Expected) => new("address of the Redis server", expected, actual);

    // A server that is down must be a miss at once, and be found again soon.
    private sealed class TierDefaults : DefaultOptionsProvider
    {
        public override bool AbortOnConnectFail => false;

        public override BacklogPolicy BacklogPolicy => BacklogPolicy.FailFast;

        public override TimeSpan HeartbeatInterval => TimeSpan.FromMilliseconds(250);

        public override IReconnectRetryPolicy ReconnectRetryPolicy => new LinearRetry(250);

        public override bool IncludeDetailInExceptions => false;
    }
}
