using System.Buffers.Binary;
using System.IO.Hashing;

namespace KvCacheGpu;

/// <summary>The kinds of a store's files.</summary>
internal enum FileKind
{
    Manifest = 1,
    Blocks = 2,
    Current = 3,
}

/// <summary>The first bytes of every file of a store.</summary>
/// <remarks>
/// <code>
/// version 1, and every later one (a reader can always tell a newer file from a broken one):
///    0  magic       8   89 'K' 'V' 'S' 'N' 'A' 'P' 0A
///    8  version     u16
///   10  kind        u16   1 manifest, 2 blocks, 3 current
///   12  flags       u32   bit 0: encrypted; the others 0
///   16  generation  i64   1 and up
///   24  length      i64   of the whole file
///   32  salt        16    random; the same in manifest and blocks, which it binds together; 0 in current
///   48  reserved    u64   0
///   56  check       u64   XxHash3 of bytes 0..55
///
/// version 0:
///    0  magic 8 | 8  version u16 = 0 | 10  kind u16 | 12  reserved u32, 0 | 16  generation i64 | 24  length i64
/// </code>
/// </remarks>
internal sealed record FileHeader(int Version, FileKind Kind, bool IsEncrypted, long Generation, long Length, UInt128 Salt)
{
    public const int NewestVersion = 1;
    public const int MostBytes = 64;

    private const int OldBytes = 32;
    private const int KindOffset = 10;
    private const int CheckOffset = 56;

    public static ReadOnlySpan<byte> Magic => [0x89, (byte)'K', (byte)'V', (byte)'S', (byte)'N', (byte)'A', (byte)'P', 0x0A];

    /// <summary>Bytes that the header takes.</summary>
    public int Bytes => Version == 0 ? OldBytes : MostBytes;

    public byte[] ToBytes()
    {
        var writer = new SectionWriter();
        writer.Bytes(Magic);
        writer.UInt16(Version);
        writer.UInt16((int)Kind);
        writer.Int32(IsEncrypted ? 1 : 0);
        writer.Int64(Generation);
        writer.Int64(Length);
        writer.Hash(Salt);
        writer.Int64(0);
        writer.Int64((long)XxHash3.HashToUInt64(writer.Written));
        return writer.Written.ToArray();
    }

    /// <summary>Reads the header of a file of <paramref name="length"/> bytes, of which these are the first.</summary>
    public static FileHeader Read(ReadOnlySpan<byte> first, long length, FileKind kind, string file)
    {
        var reader = new SectionReader(first, file);
        if (!reader.Bytes(Magic.Length).SequenceEqual(Magic))
        {
            throw reader.Flaw("a snapshot's first eight bytes", "others");
        }

        int version = reader.UInt16();
        if (version > 0)
        {
            ThrowIfAltered(first, file);
            ThrowIfNewer(version, file);
        }

        var foundKind = (FileKind)reader.UInt16();
        int flags = reader.Int32();
        var header = new FileHeader(version, foundKind, flags == 1, reader.Int64(), reader.Int64(), version == 0 ? 0 : reader.Hash());
        bool hasReserved = version == 0 ? flags != 0 : (flags & ~1) != 0 || reader.Int64() != 0;
        if (foundKind != kind || hasReserved || header.Generation < 1 || header.Length != length)
        {
            throw reader.Flaw($"{kind}, {length} bytes", $"{foundKind}, {header.Length} bytes, generation {header.Generation}, flags {flags}");
        }

        return header;
    }

    /// <summary>Throws what <see cref="Read"/> throws of a file of any kind.</summary>
    public static void ThrowIfFlawed(ReadOnlySpan<byte> first, long length, string file) =>
        Read(first, length, first.Length > KindOffset ? (FileKind)first[KindOffset] : default, file);

    /// <summary>Throws if a blocks file was not written together with a manifest: its header must be the manifest's.</summary>
    public static void ThrowIfBlocksDiffer(OpenFile blocks, FileHeader manifest, string name)
    {
        long length = blocks.Length;
        byte[] first = new byte[Math.Min(length, MostBytes)];
        blocks.Read(first, 0);
        FileHeader header = Read(first, length, FileKind.Blocks, name);
        if (header with { Kind = FileKind.Manifest, Length = manifest.Length } != manifest)
        {
            throw new KvCorruptionException(name, "the blocks that the manifest was written with", $"those of generation {header.Generation}");
        }
    }

    private static void ThrowIfAltered(ReadOnlySpan<byte> first, string file)
    {
        if (first.Length < MostBytes
            || BinaryPrimitives.ReadUInt64LittleEndian(first[CheckOffset..]) != XxHash3.HashToUInt64(first[..CheckOffset]))
        {
            throw new KvCorruptionException(file, "a header as it was written", "another");
        }
    }

    private static void ThrowIfNewer(int version, string file)
    {
        if (version > NewestVersion)
        {
            throw new KvNewerVersionException(file, $"version {NewestVersion} or before", $"version {version}");
        }
    }
}
