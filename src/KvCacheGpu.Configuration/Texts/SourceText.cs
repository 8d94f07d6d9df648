namespace KvCacheGpu.Configuration;

/// <summary>A configuration file's text: UTF-8, with or without byte order mark, lines that end in LF or CR LF.</summary>
/// <param name="Name">The file's name as it was given; errors and origins name it.</param>
/// <param name="Text">Its text, without byte order mark.</param>
internal sealed record SourceText(string Name, string Text)
{
    /// <summary>Reads a file.</summary>
    /// <exception cref="KvConfigurationException">E003: no regular file, longer than a configuration, or not UTF-8.</exception>
    /// <exception cref="IOException">Not there or not readable.</exception>
    public static SourceText Read(string path)
    {
        if (PathKind.FlawOf(path) is { } flaw)
        {
            throw new KvConfigurationException(path, "a regular file", flaw);
        }

        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        byte[] bytes = new byte[TextFile.MostBytes + 1];
        int length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return length <= TextFile.MostBytes
            ? new SourceText(path, TextFile.Decode(path, bytes[..length]).TrimStart('\uFEFF'))
            : throw new KvConfigurationException(path, $"a configuration of at most {TextFile.MostBytes} bytes", "more");
    }

    /// <summary>Names a place in the file: "kv_cache.yaml:3: max_tokens".</summary>
    public string At(int line, string? key = null) => string.IsNullOrEmpty(key) ? $"{Name}:{line}" : $"{Name}:{line}: {key}";
}
