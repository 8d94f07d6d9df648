using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu.Llama;

/// <summary>
/// A safetensors file, open for reading. The whole header is checked before a tensor is read. Elements are read from the file when
/// they are asked for, so that a model is never in memory twice.
/// Thread safety: tensors may be read from any threads at once; not beside <see cref="Dispose"/>.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    private const int CopyBytes = 1 << 20;

    private readonly SafeFileHandle _handle;
    private readonly Dictionary<string, TensorEntry> _entries;

    private SafetensorsFile(SafeFileHandle handle, string name, Dictionary<string, TensorEntry> entries, Dictionary<string, string> metadata) =>
        (_handle, Name, _entries, Metadata) = (handle, name, entries, metadata);

    /// <summary>The name of the file in errors.</summary>
    public string Name { get; }

    /// <summary>The tensors, in the header's order.</summary>
    public IReadOnlyCollection<TensorEntry> Tensors => _entries.Values;

    /// <summary>The texts that the writer stored beside the tensors. If a tensor has two names, they map the name that is not stored to the stored one.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Opens a file and checks its header.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="LlamaFormatException">The file is missing (E002), truncated, or has a header with wrong offsets, shapes or types (E004).</exception>
    public static SafetensorsFile Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (!File.Exists(path))
        {
            LlamaFormatException.ThrowMissing(path, "a safetensors file");
        }

        LlamaFormatException.ThrowIfNoFile(path);
        SafeFileHandle handle = File.OpenHandle(path, options: FileOptions.RandomAccess);
        try
        {
            string name = Path.GetFileName(path);
            (Dictionary<string, TensorEntry> tensors, Dictionary<string, string> metadata) = ReadHeader(handle, name);
            return new SafetensorsFile(handle, name, tensors, metadata);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>True if the file has a tensor of this name.</summary>
    public bool Contains(string tensor) => _entries.ContainsKey(tensor);

    /// <summary>Finds a tensor of a given shape, in a type that weights may have.</summary>
    /// <param name="tensor">Its name.</param>
    /// <param name="shape">The dimensions it must have.</param>
    /// <exception cref="LlamaFormatException">The tensor is missing or has another shape (E004), or has a type that no weight has (E009).</exception>
    public TensorEntry Require(string tensor, params ReadOnlySpan<long> shape)
    {
        string expected = $"[{string.Join(", ", shape.ToArray())}]";
        if (!_entries.TryGetValue(tensor, out TensorEntry? entry))
        {
            LlamaFormatException.ThrowCorrupt(Name, tensor, $"a tensor {expected}", "no such tensor");
        }

        if (!shape.SequenceEqual([.. entry.Shape]))
        {
            LlamaFormatException.ThrowCorrupt(Name, tensor, $"shape {expected} as config.json implies", entry.ShapeText);
        }

        if (entry.WeightType is null)
        {
            LlamaFormatException.ThrowUnsupported(Name, tensor, "F32, F16 or BF16", entry.Type);
        }

        return entry;
    }

    /// <summary>Reads bytes of a tensor.</summary>
    /// <param name="entry">The tensor.</param>
    /// <param name="start">First byte, counted from the tensor's start.</param>
    /// <param name="target">Is filled.</param>
    /// <exception cref="LlamaFormatException">The file has become shorter since it was opened.</exception>
    public void Read(TensorEntry entry, long start, Span<byte> target)
    {
        ArgumentNullException.ThrowIfNull(entry);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + target.Length, entry.Bytes, nameof(target));
        ReadWhole(_handle, Name, entry.Name, entry.Offset + start, target);
    }

    /// <summary>Copies all bytes of a tensor.</summary>
    /// <exception cref="LlamaFormatException">The file has become shorter since it was opened.</exception>
    internal void CopyTo(TensorEntry entry, Stream target)
    {
        byte[] buffer = new byte[Math.Min(entry.Bytes, CopyBytes)];
        for (long at = 0; at < entry.Bytes; at += buffer.Length)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, entry.Bytes - at));
            Read(entry, at, part);
            target.Write(part);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

    private static (Dictionary<string, TensorEntry> Tensors, Dictionary<string, string> Metadata) ReadHeader(SafeFileHandle handle, string name)
    {
        long fileBytes = RandomAccess.GetLength(handle);
        if (fileBytes < SafetensorsHeader.PrefixBytes)
        {
            LlamaFormatException.ThrowCorrupt(name, "size", "8 bytes of header length at least", $"{fileBytes}");
        }

        Span<byte> prefix = stackalloc byte[SafetensorsHeader.PrefixBytes];
        ReadWhole(handle, name, "header", 0, prefix);
        ulong headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        long limit = Math.Min(SafetensorsHeader.MaxBytes, fileBytes - SafetensorsHeader.PrefixBytes);
        if (headerBytes < 2 || headerBytes > (ulong)limit)
        {
            // The kind of the file is only checked after a fault, because the length of a valid header may begin with any bytes.
            byte[] start = new byte[Math.Min(ModelFile.KindBytes, fileBytes)];
            ReadWhole(handle, name, "header", 0, start);
            ModelFile.RefuseOtherKind(name, start);
            LlamaFormatException.ThrowCorrupt(name, "header length", $"2..{limit} bytes in a file of {fileBytes}", $"{headerBytes}");
        }

        byte[] json = new byte[headerBytes];
        ReadWhole(handle, name, "header", SafetensorsHeader.PrefixBytes, json);
        return SafetensorsHeader.Parse(name, json, fileBytes - SafetensorsHeader.PrefixBytes - json.Length);
    }

    private static void ReadWhole(SafeFileHandle handle, string name, string what, long offset, Span<byte> target)
    {
        int wanted = target.Length;
        while (target.Length > 0)
        {
            int read = RandomAccess.Read(handle, target, offset);
            if (read == 0)
            {
                LlamaFormatException.ThrowCorrupt(name, what, $"{wanted} bytes", $"the file's end {target.Length} bytes early");
            }

            target = target[read..];
            offset += read;
        }
    }
}
