using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// Writes bytes as letters, as byte-level vocabularies do (GPT-2): printable Latin-1 characters stand for themselves, the other bytes, in order,
/// are U+0100 and up. So a space is <c>Ġ</c>.
/// </summary>
internal static class ByteAlphabet
{
    private static readonly char[] Letters = MakeLetters();
    private static readonly Dictionary<char, byte> Bytes = Letters.Select((c, i) => (c, i)).ToDictionary(p => p.c, p => (byte)p.i);

    /// <summary>Writes a text's bytes as letters.</summary>
    public static string Encode(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return string.Create(bytes.Length, bytes, static (letters, bytes) =>
        {
            for (int i = 0; i < bytes.Length; i++)
            {
                letters[i] = Letters[bytes[i]];
            }
        });
    }

    /// <summary>The bytes of a token. A token with other letters (an added one) stands for its own text.</summary>
    public static byte[] Decode(string token)
    {
        byte[] bytes = new byte[token.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!Bytes.TryGetValue(token[i], out bytes[i]))
            {
                return Encoding.UTF8.GetBytes(token);
            }
        }

        return bytes;
    }

    private static char[] MakeLetters()
    {
        char[] letters = new char[256];
        char next = '\u0100';
        for (int value = 0; value < letters.Length; value++)
        {
            bool printable = value is (> 0x20 and < 0x7f) or (> 0xa0 and not 0xad);
            letters[value] = printable ? (char)value : next++;
        }

        return letters;
    }
}
