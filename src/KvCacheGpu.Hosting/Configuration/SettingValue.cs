using System.Globalization;
using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Hosting;

/// <summary>A value of the configuration, under its path. What cannot be read is refused with the path, what was expected, and what is there.</summary>
internal readonly struct SettingValue(IConfigurationSection section)
{
    /// <summary>Its path, "KvCaches:chat:MaxTokens".</summary>
    public string Path => section.Path;

    /// <summary>The values below it, by name.</summary>
    public IEnumerable<(string Name, SettingValue Value)> Children => section.GetChildren().Where(IsSet).Select(child => (child.Key, new SettingValue(child)));

    public string Text => section.Value is { } text && !section.GetChildren().Any() ? text : throw Not("a value", section.Value is null ? "a section" : "a value and a section");

    public int Int32 => int.TryParse(Text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) ? number : throw Not("a whole number");

    public long Int64 => long.TryParse(Text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : throw Not("a whole number");

    public ulong UInt64 => ulong.TryParse(Text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong number) ? number : throw Not("a whole number of 0 or more");

    public double Double => double.TryParse(Text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? number : throw Not("a number");

    public bool Boolean => bool.TryParse(Text, out bool flag) ? flag : throw Not("true or false");

    // No shorter forms: "300" would be days, and "24:00:00" too.
    public TimeSpan Time => Text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParseExact(Text, "c", CultureInfo.InvariantCulture, out TimeSpan time) ? time : throw Not("a time, as 00:05:00");

    public PageFormat Format => PageFormats.TryParse(Text, out PageFormat format) ? format : throw Not("a page format, as i8");

    public KvFormats Formats => Text.Split('/') is [string key, string value] && PageFormats.TryParse(key, out PageFormat keys) && PageFormats.TryParse(value, out PageFormat values)
        ? new KvFormats(keys, values) : throw Not("formats of keys and values, as t4/v4");

    public KvPolicy? Policy => KvPolicies.TryParse(Text, out KvPolicy? policy) ? policy : throw Not($"a policy: {string.Join(", ", KvPolicies.Names)}");

    public T Enum<T>()
        where T : struct, Enum =>
        System.Enum.TryParse(Text, ignoreCase: true, out T value) && System.Enum.IsDefined(value) && !char.IsAsciiDigit(Text[0]) ? value : throw Not(string.Join(" or ", System.Enum.GetNames<T>()));

    /// <summary>Hands each value below to what takes it, by name; upper and lower case are the same. One that is null is left out.</summary>
    /// <exception cref="KvConfigurationException">E003: nothing takes a name.</exception>
    public void Read(IReadOnlyDictionary<string, Action<SettingValue>> takers) => Read(section, takers);

    /// <inheritdoc cref="Read(IReadOnlyDictionary{string, Action{SettingValue}})"/>
    public static void Read(IConfiguration from, IReadOnlyDictionary<string, Action<SettingValue>> takers)
    {
        foreach (IConfigurationSection child in from.GetChildren().Where(IsSet))
        {
            var value = new SettingValue(child);
            Action<SettingValue> take = takers.FirstOrDefault(one => string.Equals(one.Key, child.Key, StringComparison.OrdinalIgnoreCase)).Value
                ?? throw new KvConfigurationException(child.Path, $"one of {string.Join(", ", takers.Keys.Order(StringComparer.Ordinal))}", $"'{child.Key}'");
            take(value);
        }
    }

    // Null, as JSON may have it, leaves the default.
    private static bool IsSet(IConfigurationSection section) => section.Value is not null || section.GetChildren().Any(IsSet);

    /// <summary>Says what was expected in place of the value.</summary>
    public KvConfigurationException Not(string expected, string? actual = null) => new(Path, expected, actual ?? $"'{section.Value}'");
}
