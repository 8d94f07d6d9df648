using System.Globalization;
using System.Text;

namespace KvCacheGpu.Import.Tests;

/// <summary>Files that the real Python libraries wrote, malformed ones, and how Python prints what they hold.</summary>
internal static class Fixture
{
    private static readonly string Folder = System.IO.Path.Combine(AppContext.BaseDirectory, "Fixtures");

    public static string Path(string name) => System.IO.Path.Combine(Folder, name);

    public static IEnumerable<string> Names(string pattern) => Directory.EnumerateFiles(Folder, pattern).Select(f => System.IO.Path.GetFileName(f)).Order(StringComparer.Ordinal);

    public static string[] Buffers(string name) => [.. Names(System.IO.Path.GetFileNameWithoutExtension(name) + ".buf*").Select(Path)];

    public static CacheFile Open(string name) => CacheFile.Open(Path(name), Buffers(name));

    /// <summary>A pickle of protocol 2 to 5 around opcodes given as Latin-1 text.</summary>
    public static byte[] Pickle(string opcodes, int protocol = 4) => [0x80, (byte)protocol, .. Encoding.Latin1.GetBytes(opcodes)];

    /// <summary>A value as Python's repr prints it.</summary>
    public static string Repr(PickleValue value) => value is BytesValue bytes ? Repr(bytes.Bytes.ToArray()) : PickleKeys.Text(value);

    private static string Repr(byte[] bytes) =>
        $"b'{string.Concat(bytes.Select(b => b is >= 0x20 and < 0x7f ? ((char)b).ToString() : string.Create(CultureInfo.InvariantCulture, $"\\x{b:x2}")))}'";
}
