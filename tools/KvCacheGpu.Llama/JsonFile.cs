using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>A JSON object in a model directory; every question it cannot answer is a <see cref="LlamaFormatException"/> naming file and key.</summary>
internal readonly struct JsonFile
{
    private const int MaxBytes = 256 << 20;

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    private readonly JsonElement _object;

    private JsonFile(string file, JsonElement root) => (Name, _object) = (file, root);

    /// <summary>The file, as errors name it.</summary>
    public string Name { get; }

    /// <summary>The whole object.</summary>
    public JsonElement Root => _object;

    /// <summary>Reads a file whose root is an object.</summary>
    public static JsonFile Open(string path)
    {
        string name = Path.GetFileName(path);
        long length = new FileInfo(path).Length;
        if (length > MaxBytes)
        {
            LlamaFormatException.ThrowCorrupt(name, "size", $"at most {MaxBytes} bytes", $"{length}");
        }

        return Parse(name, File.ReadAllBytes(path));
    }

    /// <summary>Parses bytes whose root is an object.</summary>
    public static JsonFile Parse(string name, ReadOnlyMemory<byte> utf8)
    {
        JsonElement root = default;
        try
        {
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

    /// <summary>The value of a key, null where it is absent or JSON's null.</summary>
    public JsonElement? Find(string key) =>
        _object.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

    /// <summary>Whether a key is there and is JSON's null: "none", where absence is a default.</summary>
    public bool IsNull(string key) => _object.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Null;

    /// <summary>Refuses a value that is sound but not served.</summary>
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

    private T Missing<T>(string key)
    {
        LlamaFormatException.ThrowCorrupt(Name, key, "a value", "no such key");
        return default!;
    }
}
