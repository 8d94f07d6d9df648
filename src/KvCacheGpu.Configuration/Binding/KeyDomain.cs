using System.Globalization;

namespace KvCacheGpu.Configuration;

/// <summary>Reads a scalar's text into the one way to write its value; null where it is no such value.</summary>
internal delegate string? ReadValue(string text, bool isVariable);

/// <summary>What a key takes.</summary>
/// <param name="Allowed">In words.</param>
/// <param name="IsText">Whether it is a text, which quotes may stand around, and not a number or a switch.</param>
/// <param name="TakesNull">Whether no value is one.</param>
/// <param name="Read">Reads it.</param>
internal sealed record KeyDomain(string Allowed, bool IsText, bool TakesNull, ReadValue Read)
{
    public static KeyDomain Switch { get; } = new("true or false", false, false, (text, isVariable) => text.ToLowerInvariant() switch
    {
        "true" => "true",
        "false" => "false",
        "1" or "yes" or "on" when isVariable => "true",
        "0" or "no" or "off" when isVariable => "false",
        _ => null,
    });

    /// <summary>Above 0 and at most 1.</summary>
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

    public bool TryRead(NodeKind kind, string? text, out string? value)
    {
        value = null;
        if (kind == NodeKind.Null || (kind == NodeKind.Variable && text is "" && TakesNull))
        {
            return TakesNull;
        }

        // Quotes make a text of what stands in them; a number of JSON is none.
        bool fits = IsText ? kind is NodeKind.Text or NodeKind.Plain or NodeKind.Variable : kind is NodeKind.Literal or NodeKind.Plain or NodeKind.Variable;
        value = fits && !(kind == NodeKind.Plain && !IsText && BeginsWithZero(text!)) ? Read(text!, kind == NodeKind.Variable) : null;
        return value is not null;
    }

    // 010 is ten to YAML 1.2 and eight to YAML 1.1: a number that two readers take for two.
    private static bool BeginsWithZero(string text) => text.TrimStart('+', '-') is ['0', >= '0' and <= '9', ..];
}
