using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu.Llama;

/// <summary>A model directory cannot be used: a file is missing, truncated, inconsistent, or of another architecture.</summary>
/// <remarks>The message is one line that names the file, what was expected and what was found.</remarks>
public sealed class LlamaFormatException : Exception
{
    private LlamaFormatException(string code, string message, string expected, string actual, Exception? inner)
        : base($"{code}: {OneLine(message)}", inner) => (Code, Expected, Actual) = (code, expected, actual);

    /// <summary>E002 if a file is missing, E004 if one is corrupt, E009 if the architecture is not served here.</summary>
    public string Code { get; }

    /// <summary>The value that the reader needs.</summary>
    public string Expected { get; }

    /// <summary>The value that it found.</summary>
    public string Actual { get; }

    /// <summary>Reports a file or directory that does not exist.</summary>
    /// <param name="path">The file or directory.</param>
    /// <param name="expected">What was looked for in it.</param>
    /// <exception cref="LlamaFormatException">E002, always.</exception>
    [DoesNotReturn]
    public static void ThrowMissing(string path, string expected) =>
        throw new LlamaFormatException("E002", $"{path}: expected {expected}, found nothing", expected, "nothing", null);

    /// <summary>Refuses a path that is no regular file, because reading a pipe to which nobody writes would wait for ever.</summary>
    internal static void ThrowIfNoFile(string path)
    {
        if (PathKind.FlawOf(path) is { } flaw)
        {
            throw new LlamaFormatException("E002", $"{path}: expected a regular file, got {flaw}", "a regular file", flaw, null);
        }
    }

    /// <summary>Reports a file that contradicts itself.</summary>
    [DoesNotReturn]
    internal static void ThrowCorrupt(string file, string where, string expected, string actual, Exception? inner = null) =>
        throw new LlamaFormatException("E004", $"{file}: {where}: expected {expected}, got {actual}", expected, actual, inner);

    /// <summary>Reports a valid file of a kind that is not served.</summary>
    [DoesNotReturn]
    internal static void ThrowUnsupported(string file, string where, string expected, string actual) =>
        throw new LlamaFormatException("E009", $"{file}: {where}: only {expected} is supported, got {actual}", expected, actual, null);

    // Anybody may have chosen the names in a file: control characters must not break the line or the terminal.
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
