using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>The text of a configuration's file, and its bytes again: UTF-8, the byte order mark kept.</summary>
internal static class TextFile
{
    /// <summary>A configuration is no longer than this.</summary>
    public const int MostBytes = 1 << 20;

    private static readonly UTF8Encoding _strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <exception cref="KvConfigurationException">No UTF-8 (E003).</exception>
    public static string Decode(string path, byte[] bytes)
    {
        try
        {
            return _strict.GetString(bytes);
        }
        catch (DecoderFallbackException error)
        {
            int line = 1 + bytes.AsSpan(0, Math.Clamp(error.Index, 0, bytes.Length)).Count((byte)'\n');
            throw new KvConfigurationException($"{path}:{line}", "UTF-8", "other bytes", error);
        }
    }

    public static byte[] ToBytes(string text) => _strict.GetBytes(text);

    /// <summary>How a text ends its lines.</summary>
    public static string NewLineOf(string text) => text.Contains("\r\n", StringComparison.Ordinal) ? "\r\n" : "\n";

    /// <summary>The lines of a text, each with its own ending, so that joined they are the text.</summary>
    public static List<string> Lines(string text)
    {
        var lines = new List<string>();
        for (int at = 0; at < text.Length;)
        {
            int end = text.IndexOf('\n', at);
            end = end < 0 ? text.Length : end + 1;
            lines.Add(text[at..end]);
            at = end;
        }

        return lines;
    }

    /// <summary>Inserts a line after another; a last line that had no ending gets one, and keeps having none at the end.</summary>
    public static void InsertAfter(List<string> lines, int index, IEnumerable<string> added, string newLine)
    {
        bool isOpen = index >= 0 && !lines[index].EndsWith('\n');
        string[] whole = [.. added.Select(line => line + newLine)];
        if (isOpen && whole.Length > 0)
        {
            lines[index] += newLine;
            whole[^1] = whole[^1][..^newLine.Length];
        }

        lines.InsertRange(index + 1, whole);
    }

    /// <summary>The line that a place in a text stands on, from 1.</summary>
    public static int LineOf(string text, int place) => 1 + text.AsSpan(0, place).Count('\n');
}
