using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>A policy as users write it: "none", "window", "window:512".</summary>
/// <param name="WindowTokens">Newest tokens that stay, or null: everything stays.</param>
internal sealed record PolicyName(int? WindowTokens)
{
    /// <summary>What <see cref="TryParse"/> takes, for error texts.</summary>
    public const string Expected = "none, window, or window:TOKENS";

    /// <summary>Tokens of "window" where it names none.</summary>
    public const int DefaultWindow = 1024;

    /// <summary>Reads a policy's name.</summary>
    public static bool TryParse(string text, out PolicyName? policy)
    {
        string[] parts = text.Split(':');
        policy = parts switch
        {
            ["none"] => new PolicyName((int?)null),
            ["window"] => new PolicyName(DefaultWindow),
            ["window", string tokens] when int.TryParse(tokens, NumberStyles.None, CultureInfo.InvariantCulture, out int window) && window > 0
                => new PolicyName(window),
            _ => null,
        };
        return policy is not null;
    }

    /// <summary>The policy itself, or null: keep everything.</summary>
    public KvPolicy? Create() => WindowTokens is { } window ? new WindowPolicy(window) : null;
}
