using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu.Llama;

/// <summary>A model directory that cannot be used: a file that is missing, truncated, lying about itself, or of another architecture.</summary>
/// <remarks>The message is one line that names the file, what was expected and what was found.</remarks>
public sealed class LlamaFormatException : Exception
{
    private LlamaFormatException(string code, string message, string expected, string actual, Exception? inner)
        : base($"{code}: {OneLine(message)}", inner) => (Code, Expected, Actual) = (code, expected, actual);

    /// <summary>E002 where a file is missing, E004 where one is corrupt, E009 where the architecture is not one served here.</summary>
    public string Code { get; }

    /// <summary>What the reader needed.</summary>
    public string Expected { get; }

    /// <summary>What it found.</summary>
    public string Actual { get; }

    /// <summary>A file or directory that is not there.</summary>
    [DoesNotReturn]
    internal static void ThrowMissing(string path, string expected) =>
        throw new LlamaFormatException("E002", $"{path}: expected {expected}, found nothing", expected, "nothing", null);

    /// <summary>Refuses what is no file: reading a pipe that nobody writes to would wait for ever.</summary>
    internal static void ThrowIfNoFile(string path)
    {
        if (PathKind.FlawOf(path) is { } flaw)
        {
            throw new LlamaFormatException("E002", $"{path}: expected a regular file, got {flaw}", "a regular file", flaw, null);
        }
    }

    /// <summary>A file that contradicts itself.</summary>
    [DoesNotReturn]
    internal static void ThrowCorrupt(string file, string where, string expected, string actual, Exception? inner = null) =>
        throw new LlamaFormatException("E004", $"{file}: {where}: expected {expected}, got {actual}", expected, actual, inner);

    /// <summary>A file that is sound, of a kind that is not served.</summary>
    [DoesNotReturn]
    internal static void ThrowUnsupported(string file, string where, string expected, string actual) =>
        throw new LlamaFormatException("E009", $"{file}: {where}: only {expected} is supported, got {actual}", expected, actual, null);

    // Names in files are not ours: control characters must not break the line or the terminal.
    private static string OneLine(string text)
    {
        char[] clean = text.Length > 500 ? text.AsSpan(0, 500).ToArray() : text.ToCharArray();
        for (int i = 0; i < clean.Length; i++)
        {
            clean[i] = char.IsControl(clean[i]) ? ' ' : clean[i];
        }

        return new string(clean);
    }
}
