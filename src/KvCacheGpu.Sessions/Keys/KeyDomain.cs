using System.Globalization;

namespace KvCacheGpu;

/// <summary>The values that a key takes, as texts.</summary>
/// <param name="Allowed">In words.</param>
/// <param name="IsText">True for texts, which quotes may stand around; false for numbers and switches.</param>
/// <param name="TakesNull">True if a key may have no value.</param>
/// <param name="Read">Reads a text into the one way to write its value; null if it is no such value. The second parameter is true for a variable's value, which may say "on" or "1".</param>
internal sealed record KeyDomain(string Allowed, bool IsText, bool TakesNull, Func<string, bool, string?> Read)
{
    public static KeyDomain Switch { get; } = new("true or false", false, false, (text, isVariable) => text.ToLowerInvariant() switch
    {
        "true" => "true",
        "false" => "false",
        "1" or "yes" or "on" when isVariable => "true",
        "0" or "no" or "off" when isVariable => "false",
        _ => null,
    });

    /// <summary>A number above 0 and at most 1.</summary>
    public static KeyDomain Part { get; } = new("a number above 0 and at most 1", false, false, (text, _) =>
        double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && number is > 0 and <= 1
            ? number.ToString("R", CultureInfo.InvariantCulture)
            : null);

    public static KeyDomain Path { get; } = new("a path, or nothing", true, true, (text, _) =>
        text.Length > 0 && !text.Contains('\0', StringComparison.Ordinal) && KvText.Flaw(text) is null ? text : null);

    public static KeyDomain Whole(int least, int most = int.MaxValue, bool takesNull = false)
    {
        string range = most == int.MaxValue ? $"{least} or more" : $"{least}..{most}";
        return new($"a whole number, {range}{(takesNull ? ", or nothing" : string.Empty)}", false, takesNull, (text, _) =>
            int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most
                ? number.ToString(CultureInfo.InvariantCulture)
                : null);
    }

    public static KeyDomain OneOf(bool isText, params IReadOnlyList<string> names) =>
        new($"one of {string.Join(", ", names)}", isText, false, (text, _) => names.FirstOrDefault(name => name.Equals(text, StringComparison.OrdinalIgnoreCase)));
}

/// <summary>Where a key's value lies in a configuration, as a text of its domain.</summary>
internal sealed record KeyValue(KeyDomain Domain, Func<KvCacheConfig, string?> Read, Action<KvCacheConfig, string?> Write)
{
    public static KeyValue Switch(Func<KvCacheConfig, bool> get, Action<KvCacheConfig, bool> set) =>
        new(KeyDomain.Switch, c => get(c) ? "true" : "false", (c, v) => set(c, v == "true"));

    public static KeyValue Part(Func<KvCacheConfig, double> get, Action<KvCacheConfig, double> set) =>
        new(KeyDomain.Part, c => get(c).ToString("R", CultureInfo.InvariantCulture), (c, v) => set(c, double.Parse(v!, CultureInfo.InvariantCulture)));

    public static KeyValue Whole(int least, int most, Func<KvCacheConfig, int> get, Action<KvCacheConfig, int> set) =>
        Number(KeyDomain.Whole(least, most), c => get(c), (c, v) => set(c, v!.Value));

    public static KeyValue WholeOrNone(int least, Func<KvCacheConfig, int?> get, Action<KvCacheConfig, int?> set) =>
        Number(KeyDomain.Whole(least, takesNull: true), get, set);

    public static KeyValue OneOf(string[] numbers, Func<KvCacheConfig, int> get, Action<KvCacheConfig, int> set) =>
        Number(KeyDomain.OneOf(isText: false, numbers), c => get(c), (c, v) => set(c, v!.Value));

    public static KeyValue OneOf<T>(Func<KvCacheConfig, T> get, Action<KvCacheConfig, T> set)
        where T : struct, Enum =>
        new(KeyDomain.OneOf(isText: true, [.. Enum.GetNames<T>().Select(n => n.ToLowerInvariant())]),
            c => get(c).ToString().ToLowerInvariant(), (c, v) => set(c, Enum.Parse<T>(v!, ignoreCase: true)));

    private static KeyValue Number(KeyDomain domain, Func<KvCacheConfig, int?> get, Action<KvCacheConfig, int?> set) =>
        new(domain, c => get(c)?.ToString(CultureInfo.InvariantCulture), (c, v) => set(c, v is null ? null : int.Parse(v, CultureInfo.InvariantCulture)));
}
