using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>A policy as users write it: "none", "h2o", "adakv:snapkv", "window:512".</summary>
/// <param name="Name">A name that <see cref="KvPolicies.TryParse"/> takes.</param>
/// <param name="WindowTokens">Number of newest tokens that a window keeps, if it is given; otherwise null.</param>
internal sealed record PolicyName(string Name, int? WindowTokens)
{
    private const string Window = "window:";

    /// <summary>The texts that <see cref="TryParse"/> takes, for errors.</summary>
    public static string Expected { get; } = $"{string.Join(", ", KvPolicies.Names)}, adakv:NAME, or window:TOKENS";

    /// <summary>Reads a policy's name.</summary>
    public static bool TryParse(string text, out PolicyName? policy)
    {
        policy = null;
        if (text.StartsWith(Window, StringComparison.Ordinal))
        {
            bool isCount = int.TryParse(text.AsSpan(Window.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int tokens) && tokens > 0;
            policy = isCount ? new PolicyName("window", tokens) : null;
        }
        else if (KvPolicies.TryParse(text, out _))
        {
            policy = new PolicyName(text.ToLowerInvariant(), null);
        }

        return policy is not null;
    }

    /// <summary>Makes the policy; null for one that keeps everything.</summary>
    public KvPolicy? Create() =>
        WindowTokens is { } window ? new WindowPolicy(window) : KvPolicies.TryParse(Name, out KvPolicy? policy) ? policy : null;
}
