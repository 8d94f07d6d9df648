using System.Text.Json;
using System.Text.Unicode;

namespace KvCacheGpu.Llama;

/// <summary>A JSON object in a model directory; a value that it does not have, or has in another form, is a <see cref="LlamaFormatException"/> that names file and key.</summary>
internal readonly struct JsonFile
{
    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    private readonly JsonElement _object;

    private JsonFile(string file, JsonElement root) => (Name, _object) = (file, root);

    /// <summary>The name of the file in errors.</summary>
    public string Name { get; }

    /// <summary>The whole object.</summary>
    public JsonElement Root => _object;

    /// <summary>Reads a file whose root is an object.</summary>
    public static JsonFile Open(string path) => Parse(Path.GetFileName(path), ModelFile.ReadAll(path));

    /// <summary>Parses bytes whose root is an object.</summary>
    public static JsonFile Parse(string name, ReadOnlyMemory<byte> utf8)
    {
        JsonElement root = default;
        try
        {
            RefuseBrokenText(name, utf8.Span);
            root = JsonDocument.Parse(utf8, Strict).RootElement;
        }
        catch (JsonException error)
        {
            LlamaFormatException.ThrowCorrupt(name, "JSON", "one well-formed object without duplicate names", error.Message, error);
        }

        if (root.ValueKind != JsonValueKind.Object)
        {
            LlamaFormatException.ThrowCorrupt(name, "JSON", "an object", root.ValueKind.ToString());
        }

        return new JsonFile(name, root);
    }

    /// <summary>A nested object under the same file name.</summary>
    public JsonFile At(JsonElement element) => new(Name, element);

    /// <summary>The value of a key; null if it is absent or JSON's null.</summary>
    public JsonElement? Find(string key) =>
        _object.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

    /// <summary>True if a key is there with JSON's null, which means "none", while an absent key means a default.</summary>
    public bool IsNull(string key) => _object.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Null;

    /// <summary>Refuses a value that is valid but not served.</summary>
    public void Support(bool met, string key, string expected)
    {
        if (!met)
        {
            LlamaFormatException.ThrowUnsupported(Name, key, expected, Find(key)?.GetRawText() ?? "nothing");
        }
    }

    /// <summary>A whole number in a range.</summary>
    public int Int(string key, int min, int max, int? absent = null)
    {
        if (Find(key) is not { } value)
        {
            return absent ?? Missing<int>(key);
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out int number) || number < min || number > max)
        {
            LlamaFormatException.ThrowCorrupt(Name, key, $"a whole number of {min}..{max}", value.GetRawText());
            return 0;
        }

        return number;
    }

    /// <summary>A positive finite number.</summary>
    public double Positive(string key, double? absent = null)
    {
        if (Find(key) is not { } value)
        {
            return absent ?? Missing<double>(key);
        }

        double number = value.ValueKind == JsonValueKind.Number ? value.GetDouble() : double.NaN;
        if (!double.IsFinite(number) || number <= 0)
        {
            LlamaFormatException.ThrowCorrupt(Name, key, "a positive number", value.GetRawText());
        }

        return number;
    }

    /// <summary>True or false.</summary>
    public bool Bool(string key, bool absent)
    {
        JsonElement? value = Find(key);
        if (value is { ValueKind: not (JsonValueKind.True or JsonValueKind.False) })
        {
            LlamaFormatException.ThrowCorrupt(Name, key, "true or false", value.Value.GetRawText());
        }

        return value?.GetBoolean() ?? absent;
    }

    /// <summary>A text.</summary>
    public string? Text(string key)
    {
        JsonElement? value = Find(key);
        if (value is { ValueKind: not JsonValueKind.String })
        {
            LlamaFormatException.ThrowCorrupt(Name, key, "a string", value.Value.GetRawText());
        }

        return value?.GetString();
    }

    /// <summary>The parts of a value that is one part or a Sequence of several, as in tokenizer.json; none if it is absent.</summary>
    /// <param name="key">The key.</param>
    /// <param name="list">The key under which a Sequence has its parts.</param>
    public IReadOnlyList<JsonFile> Sequence(string key, string list)
    {
        if (Find(key) is not { } element)
        {
            return [];
        }

        if (element.ValueKind != JsonValueKind.Object)
        {
            LlamaFormatException.ThrowCorrupt(Name, key, "an object", element.ValueKind.ToString());
        }

        JsonFile root = At(element);
        if (root.Text("type") != "Sequence")
        {
            return [root];
        }

        if (root.Find(list) is not { ValueKind: JsonValueKind.Array } parts || parts.EnumerateArray().Any(p => p.ValueKind != JsonValueKind.Object))
        {
            LlamaFormatException.ThrowCorrupt(Name, key, $"an array {list} of objects", "something else");
            return [];
        }

        return [.. parts.EnumerateArray().Select(At)];
    }

    /// <summary>The members of an object whose values are objects.</summary>
    public IEnumerable<(string Name, JsonFile Value)> Objects(string key, JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Object || value.EnumerateObject().Any(p => p.Value.ValueKind != JsonValueKind.Object))
        {
            LlamaFormatException.ThrowCorrupt(Name, key, "an object of objects", value.ValueKind.ToString());
        }

        foreach (JsonProperty member in value.EnumerateObject())
        {
            yield return (member.Name, At(member.Value));
        }
    }

    // Bytes that are not UTF-8, and halves of surrogate pairs, are refused here, because names and values are not checked again when they are read later.
    private static void RefuseBrokenText(string name, ReadOnlySpan<byte> utf8)
    {
        if (!Utf8.IsValid(utf8))
        {
            LlamaFormatException.ThrowCorrupt(name, "JSON", "UTF-8", "other bytes");
        }

        if (utf8.IndexOf("\\u"u8) < 0)
        {
            return;
        }

        Utf8JsonReader reader = new(utf8);
        while (reader.Read())
        {
            if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName && reader.ValueIsEscaped)
            {
                try
                {
                    reader.GetString();
                }
                catch (InvalidOperationException error)
                {
                    LlamaFormatException.ThrowCorrupt(name, "JSON", "text", "half of a character beyond U+FFFF, \\ud800..\\udfff alone", error);
                }
            }
        }
    }

    private T Missing<T>(string key)
    {
        LlamaFormatException.ThrowCorrupt(Name, key, "a value", "no such key");
        return default!;
    }
}
