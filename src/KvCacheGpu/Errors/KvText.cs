using System.Buffers;
using System.Text;

namespace KvCacheGpu;

/// <summary>
/// Names as bytes. UTF-8 cannot say half of a surrogate pair and puts U+FFFD in its place, so that names which differ would become one: such
/// a name is refused wherever a host gives one. All others keep their bytes.
/// </summary>
internal static class KvText
{
    /// <summary>UTF-8 that throws where a text cannot be said in it.</summary>
    public static UTF8Encoding Strict { get; } = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The text itself.</summary>
    /// <exception cref="ArgumentException">It holds half of a surrogate pair.</exception>
    public static string? WellFormed(string? text, string name) =>
        Flaw(text) is { } flaw ? throw new ArgumentException($"expected text that UTF-8 can say, got {flaw}", name) : text;

    /// <summary>What UTF-8 cannot say of a text, or null.</summary>
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
