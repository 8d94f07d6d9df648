using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>
/// The members of a request's object. Those that are null count as not there. What is not taken in the end is refused by name: an answer that leaves out what was asked for would look right.
/// </summary>
internal sealed class Fields
{
    private readonly Dictionary<string, JsonElement> _left = new(StringComparer.Ordinal);
    private readonly string _within;

    /// <summary>Reads an object.</summary>
    /// <param name="root">The object.</param>
    /// <param name="within">Its name in errors, with a dot; empty for the request itself.</param>
    public Fields(JsonElement root, string within = "")
    {
        _within = within;
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw ApiError.Invalid($"{(within.Length == 0 ? "body" : within[..^1])}: expected an object, got {Kind(root)}", within.Length == 0 ? null : within[..^1], "invalid_value");
        }

        foreach (JsonProperty property in root.EnumerateObject())
        {
            if (property.Value.ValueKind != JsonValueKind.Null)
            {
                _left[property.Name] = property.Value;
            }
        }
    }

    /// <summary>A member, of any kind; null if it is not there.</summary>
    public JsonElement? Take(string name) => _left.Remove(name, out JsonElement value) ? value : null;

    /// <summary>A text; null if it is not there.</summary>
    public string? Text(string name) => Take(name) is not { } value ? null : value.ValueKind == JsonValueKind.String ? value.GetString() : throw Wrong(name, "a text", value);

    /// <summary>True or false; null if it is not there.</summary>
    public bool? Flag(string name) =>
        Take(name) is not { } value ? null : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(name, "true or false", value);

    /// <summary>A whole number within bounds; null if it is not there.</summary>
    public long? Whole(string name, long least, long most) =>
        Take(name) is not { } value
            ? null
            : value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) && number >= least && number <= most
                ? number
                : throw Wrong(name, $"a whole number, {least} to {most}", value);

    /// <summary>A number within bounds; null if it is not there.</summary>
    /// <param name="name">The member's name.</param>
    /// <param name="least">The least.</param>
    /// <param name="most">The most.</param>
    /// <param name="isAbove">True if the least itself is not taken.</param>
    public double? Number(string name, double least, double most, bool isAbove = false) =>
        Take(name) is not { } value
            ? null
            : value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && number >= least && number <= most && !(isAbove && number == least)
                ? number
                : throw Wrong(name, FormattableString.Invariant($"a number {(isAbove ? "above" : "from")} {least} to {most}"), value);

    /// <summary>Leaves members alone that change nothing of the answer.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            _left.Remove(name);
        }
    }

    /// <summary>Takes a member that may only have the value that changes nothing.</summary>
    /// <param name="name">The member's name.</param>
    /// <param name="isPlain">True for that value.</param>
    /// <param name="expected">That value, in words.</param>
    public void Plain(string name, Func<JsonElement, bool> isPlain, string expected)
    {
        if (Take(name) is { } value && !isPlain(value))
        {
            throw ApiError.Unsupported(Path(name), $"not served here; expected {expected}, or none");
        }
    }

    /// <summary>Refuses what is left.</summary>
    public void ThrowIfMore()
    {
        if (_left.Keys.FirstOrDefault() is { } name)
        {
            string shown = name.Length <= 64 ? name : name[..64];
            throw ApiError.Invalid($"{Path(shown)}: no such parameter here", Path(shown), "unknown_parameter");
        }
    }

    /// <summary>The refusal of a value.</summary>
    public ApiError Wrong(string name, string expected, JsonElement value) => ApiError.Invalid($"{Path(name)}: expected {expected}, got {Shown(value)}", Path(name), "invalid_value");

    /// <summary>The refusal of a member that is not there.</summary>
    public ApiError Missing(string name, string expected) => ApiError.Invalid($"{Path(name)}: expected {expected}, got none", Path(name), "missing_required_parameter");

    private string Path(string name) => _within + name;

    // Numbers as they were written; texts may be long, and may be private.
    private static string Shown(JsonElement value) => value.ValueKind == JsonValueKind.Number && value.GetRawText() is { Length: <= 32 } text ? text : Kind(value);

    private static string Kind(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a text",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "true or false",
    };
}
