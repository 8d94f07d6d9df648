using System.Text.Json;

namespace KvCacheGpu.Catalog;

/// <summary>Answers for SQLite, whose JSON functions have no <c>@&gt;</c>.</summary>
internal static class JsonPart
{
    // Every whole number below it is one of 64 bits.
    private const double Int64Bound = 9.2e18;

    /// <summary>True if one JSON text contains another by the rules of PostgreSQL's <c>@&gt;</c>; false if it is no JSON.</summary>
    public static bool IsIn(string? text, string part)
    {
        if (text is null)
        {
            return false;
        }

        try
        {
            using JsonDocument whole = JsonDocument.Parse(text);
            using JsonDocument sought = JsonDocument.Parse(part);
            return Contains(whole.RootElement, sought.RootElement);
        }
        catch (JsonException)
        {
            return false;
        }
    }

    /// <summary>The first name with a text, number or truth in a canonical object, as SQLite's <c>json_each</c> would give it; null if there is none.</summary>
    public static (string Name, object Value)? FirstScalar(string canonical)
    {
        using JsonDocument document = JsonDocument.Parse(canonical);
        foreach (JsonProperty property in document.RootElement.EnumerateObject())
        {
            object? value = property.Value.ValueKind switch
            {
                JsonValueKind.String => property.Value.GetString(),
                JsonValueKind.Number => property.Value.TryGetInt64(out long whole) ? whole : property.Value.GetDouble(),
                JsonValueKind.True => 1L,
                JsonValueKind.False => 0L,
                _ => null,
            };
            if (value is not null)
            {
                return (property.Name, value);
            }
        }

        return null;
    }

    private static bool Contains(JsonElement whole, JsonElement part) => (whole.ValueKind, part.ValueKind) switch
    {
        (JsonValueKind.Object, JsonValueKind.Object) =>
            part.EnumerateObject().All(p => whole.TryGetProperty(p.Name, out JsonElement value) && Contains(value, p.Value)),
        (JsonValueKind.Array, JsonValueKind.Array) => part.EnumerateArray().All(p => whole.EnumerateArray().Any(value => Contains(value, p))),
        (JsonValueKind.Number, JsonValueKind.Number) => Number(whole) == Number(part),
        (JsonValueKind.String, JsonValueKind.String) => whole.GetString() == part.GetString(),
        (JsonValueKind a, JsonValueKind b) => a == b && (a is JsonValueKind.True or JsonValueKind.False or JsonValueKind.Null),
    };

    // A whole number that is written with a fraction or an exponent equals the integer; integers are compared exactly.
    private static (long? Whole, double Value) Number(JsonElement element)
    {
        if (element.TryGetInt64(out long whole))
        {
            return (whole, 0);
        }

        double value = element.GetDouble();
        return Math.Abs(value) < Int64Bound && value == Math.Floor(value) ? ((long)value, 0) : (null, value);
    }
}
