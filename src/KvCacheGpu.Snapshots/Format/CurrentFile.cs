using System.Buffers.Binary;
using System.IO.Hashing;

namespace KvCacheGpu;

/// <summary>CURRENT: which generation is the newest. Replaced last, in one step.</summary>
/// <remarks>
/// <code>
/// version 1:  header, 64 | the manifest's self-hash, 16 | XxHash128 of all before, 16
/// version 0:  header, 32 | the manifest's self-hash, 8  | XxHash64 of all before, 8
/// </code>
/// </remarks>
internal readonly record struct CurrentFile(long Generation, UInt128 ManifestHash)
{
    /// <summary>The longest that any version's is.</summary>
    public const int MostBytes = 4096;

    private const int Bytes = FileHeader.MostBytes + (2 * ManifestFile.HashBytes);

    public byte[] ToBytes()
    {
        var writer = new SectionWriter();
        writer.Bytes(new FileHeader(FileHeader.NewestVersion, FileKind.Current, false, Generation, Bytes, 0).ToBytes());
        writer.Hash(ManifestHash);
        writer.Hash(XxHash128.HashToUInt128(writer.Written));
        return writer.Written.ToArray();
    }

    public static CurrentFile Read(ReadOnlySpan<byte> file)
    {
        FileHeader header = FileHeader.Read(file, file.Length, FileKind.Current, "CURRENT");
        SelfHash.Verified(file, header, "CURRENT");
        int expected = header.Version == 0 ? 48 : Bytes;
        if (file.Length != expected || header.IsEncrypted || header.Salt != 0)
        {
            throw new KvCorruptionException("CURRENT", $"{expected} bytes", $"{file.Length}");
        }

        return new CurrentFile(
            header.Generation,
            header.Version == 0
                ? BinaryPrimitives.ReadUInt64LittleEndian(file[header.Bytes..])
                : BinaryPrimitives.ReadUInt128LittleEndian(file[header.Bytes..]));
    }
}

/// <summary>The hash at the end of a manifest and of CURRENT, over everything before it.</summary>
internal static class SelfHash
{
    /// <exception cref="KvCorruptionException">The bytes are not those it was taken of.</exception>
    public static UInt128 Verified(ReadOnlySpan<byte> file, FileHeader header, string what)
    {
        int bytes = header.Version == 0 ? ManifestFile0.HashBytes : ManifestFile.HashBytes;
        if (file.Length < header.Bytes + bytes)
        {
            throw new KvCorruptionException(what, $"{header.Bytes + bytes} bytes", $"{file.Length}");
        }

        UInt128 expected = header.Version == 0 ? ManifestFile0.HashOf(file[..^bytes]) : XxHash128.HashToUInt128(file[..^bytes]);
        UInt128 found = header.Version == 0
            ? BinaryPrimitives.ReadUInt64LittleEndian(file[^bytes..])
            : BinaryPrimitives.ReadUInt128LittleEndian(file[^bytes..]);
        return found == expected ? found : throw new KvCorruptionException(what, "bytes as they were written", "others: its hash differs");
    }
}
