using System.Buffers.Binary;
using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Writes a safetensors file, one tensor after the other, so that a model is never in memory whole.</summary>
internal static class SafetensorsWriter
{
    private const int Alignment = 8;

    /// <summary>Writes a new file.</summary>
    /// <param name="path">The file, which must not exist.</param>
    /// <param name="tensors">Names, types, shapes and lengths, in the order of the data, each with what writes its bytes. Offsets are not read.</param>
    /// <param name="metadata">Texts beside the tensors.</param>
    /// <exception cref="IOException">The file exists or cannot be written.</exception>
    public static void Write(string path, IReadOnlyList<(TensorEntry Entry, Action<Stream> Write)> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        using FileStream stream = new(path, FileMode.CreateNew);
        WriteHeader(stream, tensors.Select(t => t.Entry), metadata);
        foreach ((TensorEntry entry, Action<Stream> write) in tensors)
        {
            long end = stream.Position + entry.Bytes;
            write(stream);
            if (stream.Position != end)
            {
                throw new InvalidOperationException($"expected {entry.Bytes} bytes of {entry.Name}, got {stream.Position - end + entry.Bytes}");
            }
        }

        stream.Flush(flushToDisk: true);
    }

    private static void WriteHeader(FileStream stream, IEnumerable<TensorEntry> entries, IReadOnlyDictionary<string, string> metadata)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json))
        {
            writer.WriteStartObject();
            writer.WriteStartObject(SafetensorsHeader.MetadataKey);
            foreach ((string key, string text) in metadata)
            {
                writer.WriteString(key, text);
            }

            writer.WriteEndObject();
            long offset = 0;
            foreach (TensorEntry entry in entries)
            {
                WriteEntry(writer, entry, offset);
                offset += entry.Bytes;
            }

            writer.WriteEndObject();
        }

        // Spaces fill the header up, so that tensors are aligned in memory maps.
        while (json.Length % Alignment != 0)
        {
            json.WriteByte((byte)' ');
        }

        Span<byte> length = stackalloc byte[SafetensorsHeader.PrefixBytes];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        stream.Write(length);
        json.WriteTo(stream);
    }

    private static void WriteEntry(Utf8JsonWriter writer, TensorEntry entry, long offset)
    {
        writer.WriteStartObject(entry.Name);
        writer.WriteString("dtype", entry.Type);
        writer.WriteStartArray("shape");
        foreach (long dimension in entry.Shape)
        {
            writer.WriteNumberValue(dimension);
        }

        writer.WriteEndArray();
        writer.WriteStartArray("data_offsets");
        writer.WriteNumberValue(offset);
        writer.WriteNumberValue(offset + entry.Bytes);
        writer.WriteEndArray();
        writer.WriteEndObject();
    }
}
