using System.Text;

namespace KvCacheGpu.Cli;

/// <summary>Reads a UTF-8 text that an option names.</summary>
internal static class TextFile
{
    private const long LargestFile = 64 << 20;

    /// <summary>Reads a whole text.</summary>
    /// <param name="option">The option that gave the file.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="UsageException">E002: it cannot be read. E003: it is not UTF-8, or too long.</exception>
    public static string Read(string option, string path)
    {
        try
        {
            if (PathKind.FlawOf(path) is { } flaw)
            {
                throw new UsageException(option, "a regular file", $"{flaw}: {path}", "E002");
            }

            // The bytes are read directly, because a StreamReader would accept other encodings by their first bytes.
            ReadOnlySpan<byte> text = ReadBytes(option, path);
            ReadOnlySpan<byte> mark = Encoding.UTF8.Preamble;
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(text.StartsWith(mark) ? text[mark.Length..] : text);
        }
        catch (DecoderFallbackException)
        {
            throw new UsageException(option, "UTF-8 text", $"other bytes in {path}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException(option, "a file that can be read", e.Message, "E002");
        }
    }

    // The length of a pipe is not known.
    private static byte[] ReadBytes(string option, string path)
    {
        using FileStream file = File.OpenRead(path);
        using MemoryStream bytes = new();
        byte[] buffer = new byte[1 << 16];
        for (int read; (read = file.Read(buffer)) > 0;)
        {
            bytes.Write(buffer, 0, read);
            if (bytes.Length > LargestFile)
            {
                throw new UsageException(option, $"at most {LargestFile} bytes", "more");
            }
        }

        return bytes.ToArray();
    }
}
