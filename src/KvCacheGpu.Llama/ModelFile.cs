namespace KvCacheGpu.Llama;

/// <summary>Reads a file of a model directory. If another kind of file has the expected name, the error names the kind.</summary>
internal static class ModelFile
{
    private const int MaxBytes = 256 << 20;

    /// <summary>The most first bytes that <see cref="RefuseOtherKind"/> looks at.</summary>
    public const int KindBytes = 64;

    // Kinds of files by their first bytes.
    private static readonly (byte[] Start, string Kind)[] Kinds =
    [
        ([.. "version https://git-lfs.github.com/spec/"u8], "a Git LFS pointer, which stands for the file (git lfs pull fetches it)"),
        ([0x93, .. "NUMPY"u8], "a NumPy array (.npy)"),
        ([.. "PK\x03\x04"u8], "a zip archive, as torch.save and numpy.savez write"),
        ([0x80, 2], "a pickle"),
        ([0x80, 3], "a pickle"),
        ([0x80, 4], "a pickle"),
        ([0x80, 5], "a pickle"),
        ([.. "GGUF"u8], "a GGUF file"),
        ([0x89, .. "HDF\r\n"u8], "an HDF5 file"),
        ([0x1f, 0x8b], "a gzip file"),
        ([.. "<!DOCTYPE"u8], "a web page"),
        ([.. "<!doctype"u8], "a web page"),
        ([.. "<html"u8], "a web page"),
    ];

    /// <summary>Reads a whole file.</summary>
    /// <exception cref="LlamaFormatException">The file is a pipe or the like (E002), of another kind, or longer than such files are (E004).</exception>
    public static byte[] ReadAll(string path)
    {
        LlamaFormatException.ThrowIfNoFile(path);
        string name = Path.GetFileName(path);
        long length = new FileInfo(path).Length;
        if (length > MaxBytes)
        {
            LlamaFormatException.ThrowCorrupt(name, "size", $"at most {MaxBytes} bytes", $"{length}");
        }

        byte[] bytes = File.ReadAllBytes(path);
        RefuseOtherKind(name, bytes);
        return bytes;
    }

    /// <summary>Reads the lines of a text file.</summary>
    /// <exception cref="LlamaFormatException">The file is of another kind, too long, or not UTF-8 (E004).</exception>
    public static IEnumerable<string> ReadLines(string path)
    {
        byte[] bytes = ReadAll(path);
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
        {
            LlamaFormatException.ThrowCorrupt(Path.GetFileName(path), "text", "UTF-8", "other bytes");
        }

        using StreamReader reader = new(new MemoryStream(bytes));
        while (reader.ReadLine() is { } line)
        {
            yield return line;
        }
    }

    /// <summary>Refuses a file whose first bytes are those of another kind.</summary>
    /// <param name="name">The name of the file in errors.</param>
    /// <param name="start">Its first <see cref="KindBytes"/> bytes, or all if it has fewer.</param>
    public static void RefuseOtherKind(string name, ReadOnlySpan<byte> start)
    {
        foreach ((byte[] first, string kind) in Kinds)
        {
            if (start.StartsWith(first))
            {
                LlamaFormatException.ThrowCorrupt(name, "content", $"what {Path.GetExtension(name)} files hold", kind);
            }
        }
    }
}
