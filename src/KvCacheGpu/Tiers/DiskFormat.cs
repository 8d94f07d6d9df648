using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>The bytes of a segment: a file of blocks that all have one length. So a record that is damaged, and its neighbours, are where they are whatever it says.</summary>
/// <remarks>
/// <code>
/// header | record | record | ...
///
/// header, 64 bytes, of this and every later version:
///    0  magic    8   89 'K' 'V' 'T' 'I' 'E' 'R' 0A
///    8  version  i32  1
///   12  length   i32  bytes of each block
///   16  reserved 44   0
///   60  check    u32  CRC-32C of bytes 0..59
///
/// record, 64 + length bytes:
///    0  magic    4   'K' 'V' 'B' 'K'
///    4  length   i32  bytes of the block
///    8  key      32
///   40  block    u32  CRC-32C of the block
///   44  reserved 4    0
///   48  turn     i64  which write of the folder it was, counted from 1
///   56  reserved 4    0
///   60  check    u32  CRC-32C of bytes 0..59
///   64  the block
/// </code>
/// Numbers are little-endian.
/// </remarks>
internal static class DiskFormat
{
    public const int Version = 1;

    /// <summary>Bytes before a segment's first record, and before each block.</summary>
    public const int HeaderBytes = 64;

    private const int VersionOffset = 8;
    private const int LengthOffset = 12;
    private const int RecordLengthOffset = 4;
    private const int KeyOffset = 8;
    private const int SumOffset = 40;
    private const int TurnOffset = 48;
    private const int CheckOffset = 60;

    private static ReadOnlySpan<byte> Magic => [0x89, (byte)'K', (byte)'V', (byte)'T', (byte)'I', (byte)'E', (byte)'R', 0x0A];

    private static ReadOnlySpan<byte> RecordMagic => "KVBK"u8;

    /// <summary>Writes the header of a segment.</summary>
    public static void WriteHeader(Span<byte> header, int length)
    {
        header.Clear();
        Magic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header[VersionOffset..], Version);
        BinaryPrimitives.WriteInt32LittleEndian(header[LengthOffset..], length);
        Seal(header);
    }

    /// <summary>Reads the header of a segment.</summary>
    /// <param name="first">The first bytes of the file: a header's, or all there are.</param>
    /// <param name="name">Name of the file, for errors.</param>
    /// <returns>Bytes of each block; 0 if the header was never written to its end.</returns>
    /// <exception cref="KvUnsupportedException">It is no segment (E009).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library wrote it (E007).</exception>
    /// <exception cref="KvCorruptionException">It was to be a segment, and is damaged (E004).</exception>
    public static int ReadHeader(ReadOnlySpan<byte> first, string name)
    {
        int begun = Math.Min(first.Length, Magic.Length);
        if (!first[..begun].SequenceEqual(Magic[..begun]))
        {
            throw new KvUnsupportedException(name, "a file of blocks", "another file, which is left alone");
        }

        if (first.Length < HeaderBytes)
        {
            return 0;
        }

        if (!IsSealed(first))
        {
            throw new KvCorruptionException(name, "a header as it was written", "another");
        }

        int version = BinaryPrimitives.ReadInt32LittleEndian(first[VersionOffset..]);
        if (version > Version)
        {
            throw new KvNewerVersionException(name, $"version {Version}", $"version {version}");
        }

        int length = BinaryPrimitives.ReadInt32LittleEndian(first[LengthOffset..]);
        return version == Version && length > 0 ? length : throw new KvCorruptionException(name, "version 1 and a length", $"version {version}, length {length}");
    }

    /// <summary>Writes what goes before a block.</summary>
    public static void WriteRecord(Span<byte> header, in BlockHash key, int length, uint sum, long turn)
    {
        header.Clear();
        RecordMagic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header[RecordLengthOffset..], length);
        MemoryMarshal.Write(header[KeyOffset..], key);
        BinaryPrimitives.WriteUInt32LittleEndian(header[SumOffset..], sum);
        BinaryPrimitives.WriteInt64LittleEndian(header[TurnOffset..], turn);
        Seal(header);
    }

    /// <summary>Reads what goes before a block.</summary>
    /// <returns>False if it was not written, or is damaged.</returns>
    public static bool TryReadRecord(ReadOnlySpan<byte> header, int length, out BlockHash key, out uint sum, out long turn)
    {
        key = MemoryMarshal.Read<BlockHash>(header[KeyOffset..]);
        sum = BinaryPrimitives.ReadUInt32LittleEndian(header[SumOffset..]);
        turn = BinaryPrimitives.ReadInt64LittleEndian(header[TurnOffset..]);
        return IsSealed(header) && header.StartsWith(RecordMagic) && BinaryPrimitives.ReadInt32LittleEndian(header[RecordLengthOffset..]) == length;
    }

    private static void Seal(Span<byte> header) => BinaryPrimitives.WriteUInt32LittleEndian(header[CheckOffset..], Crc32C.Of(header[..CheckOffset]));

    private static bool IsSealed(ReadOnlySpan<byte> header) => BinaryPrimitives.ReadUInt32LittleEndian(header[CheckOffset..]) == Crc32C.Of(header[..CheckOffset]);
}
