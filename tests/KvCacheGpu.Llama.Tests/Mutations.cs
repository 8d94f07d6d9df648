using System.Text;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Changes the bytes of a valid file, as a broken disk, an incomplete download or an attacker would.</summary>
internal sealed class Mutations(int seed)
{
    // Bytes that are difficult for JSON, UTF-8, protobuf and lists of merges.
    private static readonly byte[][] Pieces =
    [
        .. new[]
        {
            "{", "}", "[", "]", "\"", ":", ",", "null", "true", "false", "0", "-1", "1e999", "0.5", "2147483648", "9223372036854775808", "\\ud800", "\\udc00\\ud800",
            "\\u0000", "\"\"", "{}", "[]", "[[[[[[[[", "\"a\":", "\n", "\r\n", " ", "\\", "(", ")", "(?i:", "(a+)+", "{1000}", "{2,1}", "\\p{L}", "\\w", "[^", "&&", "(?!", "<0x41>", "\u2581",
            "ByteLevel", "Sequence", "Metaspace", "Prepend", "Replace", "NFC", "TemplateProcessing", "#version: 0.2", "a b", "F64", "__metadata__",
        }.Select(Encoding.UTF8.GetBytes),
        [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x9f], [0x80, 0x80, 0x80, 0x80, 0x10], [0x0a], [0x1a, 0x02, 0x20, 0x01], [0, 0, 0xc0, 0x7f],
    ];

    private readonly Random _random = new(seed);

    /// <summary>The bytes with one to four places changed.</summary>
    public byte[] Bend(byte[] sound)
    {
        List<byte> bytes = [.. sound];
        for (int i = _random.Next(1, 5); i > 0 && bytes.Count > 0; i--)
        {
            int at = _random.Next(bytes.Count);
            int length = Math.Min(bytes.Count - at, 1 << _random.Next(0, 6));
            switch (_random.Next(7))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << _random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)_random.Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, length);
                    break;
                case 3:
                    bytes.InsertRange(_random.Next(bytes.Count), bytes.GetRange(at, length));
                    break;
                case 4:
                    bytes.InsertRange(at, Pieces[_random.Next(Pieces.Length)]);
                    break;
                case 5:
                    bytes.RemoveRange(at, length);
                    bytes.InsertRange(at, Pieces[_random.Next(Pieces.Length)]);
                    break;
                default:
                    bytes.RemoveRange(at, _random.Next(8) == 0 ? bytes.Count - at : 1);
                    break;
            }
        }

        return [.. bytes];
    }
}
