using System.Net;
using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Cli;

/// <summary>Where a server listens.</summary>
/// <param name="Urls">The addresses.</param>
/// <param name="AreLoopback">True if only this machine reaches them.</param>
internal sealed record ServeAddresses(IReadOnlyList<string> Urls, bool AreLoopback)
{
    private const string Expected = "http://HOST:PORT, several with ';' between";

    /// <summary>Reads them.</summary>
    /// <exception cref="UsageException">One is no address, or needs a certificate.</exception>
    public static ServeAddresses Of(string text)
    {
        string[] urls = text.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (urls.Length == 0)
        {
            throw new UsageException("--urls", Expected, "an empty text");
        }

        return new ServeAddresses(urls, urls.All(url => IsLoopback(Parse(url))));
    }

    public override string ToString() => string.Join(';', Urls);

    private static BindingAddress Parse(string url)
    {
        try
        {
            BindingAddress address = BindingAddress.Parse(url);
            bool isPlain = address.Scheme == Uri.UriSchemeHttp && address.PathBase.Length == 0 && !address.IsUnixPipe && !address.IsNamedPipe;
            return isPlain ? address : throw new UsageException("--urls", $"{Expected}; a proxy before it may speak https", url);
        }
        catch (FormatException)
        {
            throw new UsageException("--urls", Expected, url);
        }
    }

    private static bool IsLoopback(BindingAddress address) =>
        address.Host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(address.Host.Trim('[', ']'), out IPAddress? ip) && IPAddress.IsLoopback(ip));
}
