namespace KvCacheGpu.Import;

/// <summary>A file is refused: it contradicts itself (E004), or it holds something that this reader does not read (E009).</summary>
/// <remarks>The message is one line; it names the opcode, global or field, and the byte where it stands.</remarks>
public sealed class ImportException : Exception
{
    private const int LongestPart = 200;

    private ImportException(string code, string what, long? offset, string expected, string actual)
        : base($"{code}: {Clean(what)}{(offset is { } at ? $" at byte {at}" : string.Empty)}: expected {Clean(expected)}, got {Clean(actual)}") =>
        (Code, Subject, Offset, Expected, Actual) = (code, Clean(what), offset, expected, Clean(actual));

    /// <summary>E004 if the file is corrupt or beyond a limit, E009 if it is of a kind that is not read here.</summary>
    public string Code { get; }

    /// <summary>The opcode, global or field that is refused.</summary>
    public string Subject { get; }

    /// <summary>Its byte in the file; null if it has no single place.</summary>
    public long? Offset { get; }

    /// <summary>The values that the reader accepts.</summary>
    public string Expected { get; }

    /// <summary>The value that the file has.</summary>
    public string Actual { get; }

    internal static ImportException Corrupt(string what, long? offset, string expected, string actual) => new("E004", what, offset, expected, actual);

    internal static ImportException Unsupported(string what, long? offset, string expected, string actual) => new("E009", what, offset, expected, actual);

    /// <summary>A value of another kind than the format has there (E004).</summary>
    internal static ImportException Unexpected(string what, long offset, string expected, PickleValue actual) =>
        Corrupt(what, offset, expected, PickleKeys.Describe(actual));

    // Anybody may have chosen the names in a file: they must neither break the line nor fill it.
    private static string Clean(string text)
    {
        char[] clean = text.Length > LongestPart ? text.AsSpan(0, LongestPart).ToArray() : text.ToCharArray();
        for (int i = 0; i < clean.Length; i++)
        {
            clean[i] = char.IsControl(clean[i]) ? ' ' : clean[i];
        }

        return new string(clean);
    }
}
