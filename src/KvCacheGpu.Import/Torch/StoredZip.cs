using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>
/// A ZIP archive of stored members, as torch writes them. Everything is checked before a member is used: the central directory against
/// each local header, each member's CRC-32, and that no two members overlap or share a name. A CRC-32 of 0 in every member means that none was
/// computed: torch.save writes that on request, and torch.load accepts it.
/// </summary>
internal static class StoredZip
{
    private const uint LocalSignature = 0x04034b50;
    private const uint DescriptorSignature = 0x08074b50;
    private const int LocalBytes = 30;
    private const int ChunkBytes = 64 << 10;

    /// <summary>The members by name.</summary>
    public static Dictionary<string, ByteSource> Open(ByteSource file, ReadBudget budget)
    {
        Dictionary<string, ByteSource> members = new(StringComparer.Ordinal);
        long end = 0;
        (List<ZipMember> entries, long directory) = ZipDirectory.Read(file, budget);
        bool isSummed = entries.Exists(e => e.Crc != 0);
        foreach (ZipMember member in entries.OrderBy(e => e.Header))
        {
            if (member.Header < end)
            {
                throw ImportException.Corrupt($"member {member.Name}", member.Header, "a place of its own", "one within the member before it");
            }

            ByteSource data = Data(file, member, directory, out end);
            if (!members.TryAdd(member.Name, data))
            {
                throw ImportException.Corrupt($"member {member.Name}", member.Header, "each name once", "it again");
            }

            if (isSummed && Crc(data) is var crc && crc != member.Crc)
            {
                throw ImportException.Corrupt($"member {member.Name}", data.Origin, $"CRC-32 {member.Crc:x8}", $"{crc:x8}");
            }
        }

        return members;
    }

    // The local header must agree with the directory, or leave the sizes to a descriptor after the data, which must agree.
    private static ByteSource Data(ByteSource file, ZipMember member, long directory, out long end)
    {
        if (member.Header > directory - LocalBytes)
        {
            throw ImportException.Corrupt($"member {member.Name}", member.Header, "a local header before the directory", "none");
        }

        Span<byte> local = stackalloc byte[LocalBytes];
        file.Read(member.Header, local);
        int nameBytes = BinaryPrimitives.ReadUInt16LittleEndian(local[26..]);
        int extraBytes = BinaryPrimitives.ReadUInt16LittleEndian(local[28..]);
        Int128 start = (Int128)member.Header + LocalBytes + nameBytes + extraBytes;
        if (BinaryPrimitives.ReadUInt32LittleEndian(local) != LocalSignature || start + member.Bytes > directory)
        {
            throw ImportException.Corrupt($"member {member.Name}", member.Header, "a local header and its data before the directory", "other bytes");
        }

        byte[] names = new byte[nameBytes + extraBytes];
        file.Read(member.Header + LocalBytes, names);
        ZipSizes sizes = ZipSizes.Read(local[14..], names.AsSpan(nameBytes), member.Header);
        bool hasDescriptor = (member.Flags & ZipDirectory.DescriptorFlag) != 0;
        bool isSilent = hasDescriptor && sizes == default;
        if (BinaryPrimitives.ReadUInt16LittleEndian(local[6..]) != member.Flags || BinaryPrimitives.ReadUInt16LittleEndian(local[8..]) != 0
            || !names.AsSpan(0, nameBytes).SequenceEqual(Encoding.UTF8.GetBytes(member.Name))
            || (!isSilent && sizes != new ZipSizes(member.Crc, member.Bytes, member.Bytes)))
        {
            throw ImportException.Corrupt($"member {member.Name}", member.Header, "a local header that agrees with the directory", "one that differs");
        }

        end = (long)start + member.Bytes;
        if (hasDescriptor)
        {
            end += Descriptor(file, member, end, directory);
        }

        return file.Slice((long)start, member.Bytes);
    }

    private static int Descriptor(ByteSource file, ZipMember member, long at, long directory)
    {
        Span<byte> bytes = stackalloc byte[24];
        int there = (int)Math.Min(bytes.Length, directory - at);
        file.Read(at, bytes[..there]);
        if (there >= 16 && BinaryPrimitives.ReadUInt32LittleEndian(bytes) == DescriptorSignature && BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) == member.Crc)
        {
            if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]) == member.Bytes && BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]) == member.Bytes)
            {
                return 16;
            }

            if (there == 24 && BinaryPrimitives.ReadInt64LittleEndian(bytes[8..]) == member.Bytes && BinaryPrimitives.ReadInt64LittleEndian(bytes[16..]) == member.Bytes)
            {
                return 24;
            }
        }

        throw ImportException.Corrupt($"member {member.Name}", at, "a data descriptor that agrees with the directory", "other bytes");
    }

    private static uint Crc(ByteSource data)
    {
        Crc32 crc = new();
        byte[] chunk = new byte[Math.Min(ChunkBytes, data.Length)];
        for (long at = 0; at < data.Length; at += chunk.Length)
        {
            Span<byte> part = chunk.AsSpan(0, (int)Math.Min(chunk.Length, data.Length - at));
            data.Read(at, part);
            crc.Append(part);
        }

        return crc.GetCurrentHashAsUInt32();
    }
}
