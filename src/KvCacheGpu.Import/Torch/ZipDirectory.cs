using System.Buffers.Binary;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>A member as the central directory describes it.</summary>
internal readonly record struct ZipMember(string Name, ushort Flags, uint Crc, long Bytes, long Header);

/// <summary>Reads the central directory: <c>[members][directory][ZIP64 end and its locator, if needed][end]</c>.</summary>
internal static class ZipDirectory
{
    /// <summary>The flag of a member whose sizes follow its data.</summary>
    public const ushort DescriptorFlag = 1 << 3;

    private const ushort Utf8Flag = 1 << 11;
    private const uint EntrySignature = 0x02014b50;
    private const uint EndSignature = 0x06054b50;
    private const uint End64Signature = 0x06064b50;
    private const uint LocatorSignature = 0x07064b50;
    private const int EntryBytes = 46;
    private const int EndBytes = 22;
    private const int End64Bytes = 56;
    private const int LocatorBytes = 20;

    private static readonly UTF8Encoding _utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads the members, and the offset at which the directory begins.</summary>
    public static (List<ZipMember> Members, long Start) Read(ByteSource file, ReadBudget budget)
    {
        (long start, long bytes, long count) = Find(file);
        ReadBudget.Check("members", count, budget.Limits.Members, start);
        if (bytes / EntryBytes < count)
        {
            throw ImportException.Corrupt("directory", start, $"{count} members", $"{bytes} bytes");
        }

        List<ZipMember> members = new((int)count);
        long at = start;
        for (long i = 0; i < count; i++)
        {
            members.Add(ReadEntry(file, ref at, start + bytes));
        }

        return at == start + bytes ? (members, start) : throw ImportException.Corrupt("directory", at, "its end", "more bytes");
    }

    private static (long Start, long Bytes, long Count) Find(ByteSource file)
    {
        long endAt = file.Length - EndBytes;
        Span<byte> end = stackalloc byte[EndBytes];
        if (endAt < 0)
        {
            throw ImportException.Corrupt("ZIP file", null, "an end record", $"{file.Length} bytes");
        }

        file.Read(endAt, end);
        if (BinaryPrimitives.ReadUInt32LittleEndian(end) != EndSignature || BinaryPrimitives.ReadUInt16LittleEndian(end[20..]) != 0
            || BinaryPrimitives.ReadUInt32LittleEndian(end[4..]) != 0)
        {
            throw ImportException.Corrupt("ZIP file", endAt, "the end record of one disk without a comment", "other bytes");
        }

        long count = BinaryPrimitives.ReadUInt16LittleEndian(end[10..]);
        long onDisk = BinaryPrimitives.ReadUInt16LittleEndian(end[8..]);
        long bytes = BinaryPrimitives.ReadUInt32LittleEndian(end[12..]);
        long start = BinaryPrimitives.ReadUInt32LittleEndian(end[16..]);
        long stop = endAt;
        if (endAt >= LocatorBytes + End64Bytes && Find64(file, endAt) is { } end64)
        {
            // Each number of the short record equals that of the long one, or has all bits set.
            bool agrees = Same(count, ushort.MaxValue, end64.Count) && Same(onDisk, ushort.MaxValue, end64.Count)
                && Same(bytes, uint.MaxValue, end64.Bytes) && Same(start, uint.MaxValue, end64.Start);
            (start, bytes, count, stop) = agrees ? end64 : throw ImportException.Corrupt("ZIP file", endAt, "two end records that agree", "others");
            onDisk = count;
        }

        return onDisk == count && start >= 0 && bytes >= 0 && count >= 0 && (Int128)start + bytes == stop
            ? (start, bytes, count)
            : throw ImportException.Corrupt("ZIP file", endAt, "a directory that ends where its end record begins", $"{bytes} bytes at {start}");
    }

    private static bool Same(long number, long unset, long wide) => number == unset || number == wide;

    private static (long Start, long Bytes, long Count, long Stop)? Find64(ByteSource file, long endAt)
    {
        Span<byte> locator = stackalloc byte[LocatorBytes];
        file.Read(endAt - LocatorBytes, locator);
        if (BinaryPrimitives.ReadUInt32LittleEndian(locator) != LocatorSignature)
        {
            return null;
        }

        long at = endAt - LocatorBytes - End64Bytes;
        Span<byte> end = stackalloc byte[End64Bytes];
        file.Read(at, end);
        bool isPlain = BinaryPrimitives.ReadInt64LittleEndian(locator[8..]) == at && BinaryPrimitives.ReadUInt32LittleEndian(locator[4..]) == 0
            && BinaryPrimitives.ReadUInt32LittleEndian(end) == End64Signature && BinaryPrimitives.ReadInt64LittleEndian(end[4..]) == End64Bytes - 12
            && BinaryPrimitives.ReadInt64LittleEndian(end[16..]) == 0
            && BinaryPrimitives.ReadInt64LittleEndian(end[24..]) == BinaryPrimitives.ReadInt64LittleEndian(end[32..]);
        return isPlain
            ? (BinaryPrimitives.ReadInt64LittleEndian(end[48..]), BinaryPrimitives.ReadInt64LittleEndian(end[40..]), BinaryPrimitives.ReadInt64LittleEndian(end[32..]), at)
            : throw ImportException.Corrupt("ZIP64 end record", at, "one of one disk, at its locator's place", "other bytes");
    }

    private static ZipMember ReadEntry(ByteSource file, ref long at, long stop)
    {
        Span<byte> entry = stackalloc byte[EntryBytes];
        Need(at, EntryBytes, stop);
        file.Read(at, entry);
        int nameBytes = BinaryPrimitives.ReadUInt16LittleEndian(entry[28..]);
        int extraBytes = BinaryPrimitives.ReadUInt16LittleEndian(entry[30..]);
        int commentBytes = BinaryPrimitives.ReadUInt16LittleEndian(entry[32..]);
        Need(at + EntryBytes, nameBytes + extraBytes + commentBytes, stop);
        byte[] rest = new byte[nameBytes + extraBytes];
        file.Read(at + EntryBytes, rest);
        ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(entry[8..]);
        ushort method = BinaryPrimitives.ReadUInt16LittleEndian(entry[10..]);
        string name = Name(rest.AsSpan(0, nameBytes), at);
        ReadOnlySpan<byte> extra = rest.AsSpan(nameBytes);
        ZipSizes sizes = ZipSizes.Read(entry[16..], extra, at);
        if (BinaryPrimitives.ReadUInt32LittleEndian(entry) != EntrySignature || BinaryPrimitives.ReadUInt16LittleEndian(entry[34..]) != 0)
        {
            throw ImportException.Corrupt("directory", at, "an entry of one disk", "other bytes");
        }

        if (method != 0 || sizes.Stored != sizes.Original || (flags & ~(DescriptorFlag | Utf8Flag)) != 0)
        {
            throw ImportException.Unsupported($"member {name}", at, "stored as it is", $"method {method}, flags {flags:x4}");
        }

        ReadOnlySpan<byte> zip64 = ZipSizes.Zip64(extra, at);
        int wide = sizeof(long) * ((BinaryPrimitives.ReadUInt32LittleEndian(entry[20..]) == uint.MaxValue ? 1 : 0)
            + (BinaryPrimitives.ReadUInt32LittleEndian(entry[24..]) == uint.MaxValue ? 1 : 0));
        zip64 = zip64[Math.Min(wide, zip64.Length)..];
        long header = ZipSizes.Widen(BinaryPrimitives.ReadUInt32LittleEndian(entry[42..]), ref zip64, at);
        at += EntryBytes + nameBytes + extraBytes + commentBytes;
        return new ZipMember(name, flags, sizes.Crc, sizes.Stored, header);
    }

    private static string Name(ReadOnlySpan<byte> bytes, long offset)
    {
        try
        {
            return _utf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw ImportException.Corrupt("member name", offset, "UTF-8", "other bytes");
        }
    }

    private static void Need(long at, int bytes, long stop)
    {
        if (at > stop - bytes)
        {
            throw ImportException.Corrupt("directory", at, $"{bytes} bytes", $"{stop - at}");
        }
    }
}
