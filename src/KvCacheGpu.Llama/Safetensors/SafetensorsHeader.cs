using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>
/// Reads the header of a safetensors file. Everything in it is checked: byte lengths must follow from types and shapes, and the
/// tensors must cover the data exactly, without a gap or an overlap, as the format requires.
/// </summary>
/// <remarks>Layout: <c>[u64 n, little endian][n bytes of JSON][data]</c>; offsets in the JSON count from the start of the data.</remarks>
internal static class SafetensorsHeader
{
    /// <summary>Bytes of the length at the beginning.</summary>
    public const int PrefixBytes = 8;

    /// <summary>The longest header that the format allows.</summary>
    public const long MaxBytes = 100_000_000;

    /// <summary>The name under which the header has texts beside the tensors.</summary>
    public const string MetadataKey = "__metadata__";

    private const int MaxDimensions = 8;

    /// <summary>Reads the tensors by name, and the texts of <c>__metadata__</c>.</summary>
    /// <param name="file">The name of the file in errors.</param>
    /// <param name="json">The header's bytes.</param>
    /// <param name="dataBytes">Number of bytes that follow the header.</param>
    public static (Dictionary<string, TensorEntry> Tensors, Dictionary<string, string> Metadata) Parse(string file, ReadOnlyMemory<byte> json, long dataBytes)
    {
        JsonFile header = JsonFile.Parse(file, json);
        Dictionary<string, TensorEntry> entries = new(StringComparer.Ordinal);
        Dictionary<string, string> metadata = new(StringComparer.Ordinal);
        foreach (JsonProperty property in header.Root.EnumerateObject())
        {
            if (property.Name == MetadataKey)
            {
                ReadMetadata(file, property.Value, metadata);
            }
            else
            {
                entries.Add(property.Name, ReadEntry(file, property, PrefixBytes + json.Length, dataBytes));
            }
        }

        long next = PrefixBytes + json.Length;
        foreach (TensorEntry entry in entries.Values.OrderBy(e => e.Offset).ThenBy(e => e.Bytes))
        {
            if (entry.Offset != next)
            {
                LlamaFormatException.ThrowCorrupt(file, entry.Name, $"to start at byte {next} of the file, after the tensor before it", $"{entry.Offset}");
            }

            next += entry.Bytes;
        }

        if (next != PrefixBytes + json.Length + dataBytes)
        {
            LlamaFormatException.ThrowCorrupt(file, "size", $"{next} bytes, the sum of its tensors", $"{PrefixBytes + json.Length + dataBytes}");
        }

        return (entries, metadata);
    }

    private static void ReadMetadata(string file, JsonElement element, Dictionary<string, string> metadata)
    {
        if (element.ValueKind != JsonValueKind.Object || element.EnumerateObject().Any(p => p.Value.ValueKind != JsonValueKind.String))
        {
            LlamaFormatException.ThrowCorrupt(file, MetadataKey, "an object of texts", element.GetRawText());
        }

        foreach (JsonProperty text in element.EnumerateObject())
        {
            metadata.Add(text.Name, text.Value.GetString()!);
        }
    }

    private static TensorEntry ReadEntry(string file, JsonProperty property, long dataStart, long dataBytes)
    {
        string name = property.Name;
        if (property.Value.ValueKind != JsonValueKind.Object
            || !property.Value.TryGetProperty("dtype", out JsonElement type) || type.ValueKind != JsonValueKind.String
            || !property.Value.TryGetProperty("shape", out JsonElement shape) || shape.ValueKind != JsonValueKind.Array
            || !property.Value.TryGetProperty("data_offsets", out JsonElement offsets) || offsets.ValueKind != JsonValueKind.Array
            || offsets.GetArrayLength() != 2)
        {
            LlamaFormatException.ThrowCorrupt(file, name, "dtype, shape and two data_offsets", property.Value.GetRawText());
            return null!;
        }

        long begin = Whole(file, name, offsets[0], dataBytes);
        long end = Whole(file, name, offsets[1], dataBytes);
        long[] dimensions = [.. shape.EnumerateArray().Take(MaxDimensions + 1).Select(d => Whole(file, name, d, long.MaxValue))];
        int elementBytes = ElementBytes(file, name, type.GetString()!);
        long bytes = Product(dimensions, elementBytes);
        if (end < begin || dimensions.Length > MaxDimensions || bytes != end - begin)
        {
            LlamaFormatException.ThrowCorrupt(
                file, name, $"{(bytes < 0 ? "a countable number of" : bytes)} bytes for {type.GetString()} {shape.GetRawText()}", $"{end - begin}");
        }

        return new TensorEntry(name, type.GetString()!, dimensions, dataStart + begin, bytes);
    }

    private static long Whole(string file, string name, JsonElement value, long max)
    {
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt64(out long number) || number < 0 || number > max)
        {
            LlamaFormatException.ThrowCorrupt(file, name, $"shape and offsets of 0..{max}", value.GetRawText());
            return 0;
        }

        return number;
    }

    // The product; -1, which no length equals, if it needs more than 64 bits.
    private static long Product(long[] dimensions, int elementBytes)
    {
        UInt128 product = (UInt128)elementBytes;
        foreach (long dimension in dimensions)
        {
            product *= (UInt128)dimension;
            if (product > long.MaxValue)
            {
                return -1;
            }
        }

        return (long)product;
    }

    private static int ElementBytes(string file, string name, string type)
    {
        switch (type)
        {
            case "BOOL" or "U8" or "I8" or "F8_E4M3" or "F8_E5M2":
                return 1;
            case "F16" or "BF16" or "I16" or "U16":
                return 2;
            case "F32" or "I32" or "U32":
                return 4;
            case "F64" or "I64" or "U64":
                return 8;
            default:
                LlamaFormatException.ThrowCorrupt(file, name, "a dtype of the safetensors format", type);
                return 0;
        }
    }
}
