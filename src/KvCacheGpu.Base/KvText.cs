using System.Buffers;
using System.Text;

namespace KvCacheGpu;

/// <summary>
/// Names as bytes. UTF-8 cannot say half of a surrogate pair and puts U+FFFD in its place, so that names which differ would become one: such
/// a name is refused wherever a host gives one. All others keep their bytes.
/// </summary>
public static class KvText
{
    /// <summary>UTF-8 that throws for a text or for bytes which it cannot say.</summary>
    public static UTF8Encoding Strict { get; } = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Returns the text, which may be null.</summary>
    /// <exception cref="ArgumentException">It holds half of a surrogate pair.</exception>
    public static string? WellFormed(string? text, string name) =>
        Flaw(text) is { } flaw ? throw new ArgumentException($"expected text that UTF-8 can say, got {flaw}", name) : text;

    /// <summary>Names the first thing in a text that UTF-8 cannot say; null if there is none.</summary>
    public static string? Flaw(string? text)
    {
        ReadOnlySpan<char> rest = text;
        while (rest.IndexOfAnyInRange('\ud800', '\udfff') is >= 0 and var at)
        {
            if (Rune.DecodeFromUtf16(rest[at..], out _, out int used) != OperationStatus.Done)
            {
                return $"half of a surrogate pair, U+{(int)rest[at]:X4}";
            }

            rest = rest[(at + used)..];
        }

        return null;
    }
}
