using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>A length of time as users write it: "90s", "30m", "12h", "7d".</summary>
internal sealed record AgeText(TimeSpan Age)
{
    /// <summary>The texts that <see cref="TryParse"/> takes, for errors.</summary>
    public const string Expected = "a number above 0 and s, m, h or d: \"7d\"";

    /// <summary>Reads an age.</summary>
    public static bool TryParse(string text, out AgeText? age)
    {
        double seconds = text.Length == 0 ? 0 : text[^1] switch { 's' => 1, 'm' => 60, 'h' => 3600, 'd' => 86400, _ => 0 };
        bool isAge = seconds > 0 && double.TryParse(text[..^1], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number)
            && number > 0 && number * seconds < TimeSpan.MaxValue.TotalSeconds / 2;
        age = isAge ? new AgeText(TimeSpan.FromSeconds(double.Parse(text[..^1], CultureInfo.InvariantCulture) * seconds)) : null;
        return isAge;
    }
}
