using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace KvCacheGpu.Catalog;

/// <summary>Brings metadata into one form, so that they read the same from JSONB, which rewrites them, and from SQLite, which keeps the text.</summary>
internal static class Json
{
    private const int MaxBytes = 1 << 20;
    private const double Int64Bound = 9.2e18;

    private static readonly JsonDocumentOptions _reading = new() { MaxDepth = 64, AllowDuplicateProperties = false };
    private static readonly JsonWriterOptions _writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, MaxDepth = 64 };

    /// <summary>The JSON object with names in ordinal order, no white space, and every number in its shortest form.</summary>
    public static string Canonical(string text)
    {
        if (text.Length > MaxBytes || Encoding.UTF8.GetByteCount(text) > MaxBytes)
        {
            throw CatalogException.Invalid("metadata", "at most 1 MiB of JSON", $"{text.Length} characters");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(text, _reading);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? Write(document.RootElement)
                : throw CatalogException.Invalid("metadata", "a JSON object", $"a {document.RootElement.ValueKind}");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException)
        {
            throw CatalogException.Invalid("metadata", "a JSON object without repeated names or lone surrogates", e.Message, e);
        }
    }

    /// <summary>The metadata that a database gave back: canonical if possible, unchanged if an old version wrote something else.</summary>
    public static string Read(string text)
    {
        try
        {
            return Canonical(text);
        }
        catch (CatalogException)
        {
            return text;
        }
    }

    private static string Write(JsonElement element)
    {
        ArrayBufferWriter<byte> bytes = new();
        using (Utf8JsonWriter writer = new(bytes, _writing))
        {
            Write(writer, element);
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    private static void Write(Utf8JsonWriter writer, JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                writer.WriteStartObject();
                foreach (JsonProperty property in element.EnumerateObject().OrderBy(p => p.Name, StringComparer.Ordinal))
                {
                    EntryCheck.Text(property.Name, "metadata", MaxBytes);
                    writer.WritePropertyName(property.Name);
                    Write(writer, property.Value);
                }

                writer.WriteEndObject();
                break;
            case JsonValueKind.Array:
                writer.WriteStartArray();
                foreach (JsonElement item in element.EnumerateArray())
                {
                    Write(writer, item);
                }

                writer.WriteEndArray();
                break;
            case JsonValueKind.String:
                string text = element.GetString()!;
                EntryCheck.Text(text, "metadata", MaxBytes);
                writer.WriteStringValue(text);
                break;
            case JsonValueKind.Number:
                writer.WriteRawValue(Number(element));
                break;
            default:
                element.WriteTo(writer);
                break;
        }
    }

    private static string Number(JsonElement element)
    {
        if (element.TryGetInt64(out long whole))
        {
            return whole.ToString(CultureInfo.InvariantCulture);
        }

        double value = element.GetDouble();
        return !double.IsFinite(value)
            ? throw CatalogException.Invalid("metadata", "numbers that binary64 holds", element.GetRawText()[..Math.Min(40, element.GetRawText().Length)])
            : Math.Abs(value) < Int64Bound && value == Math.Floor(value)
                ? ((long)value).ToString(CultureInfo.InvariantCulture)
                : value.ToString("R", CultureInfo.InvariantCulture);
    }
}
