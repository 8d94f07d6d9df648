using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>The checksum, stored bytes and original bytes of a member, as a header of a ZIP archive gives them.</summary>
internal readonly record struct ZipSizes(uint Crc, long Stored, long Original)
{
    private const ushort Zip64Tag = 1;

    /// <summary>Reads them, from the ZIP64 field if 32 bits do not hold them.</summary>
    /// <param name="fields">Checksum and the two sizes, 4 bytes each.</param>
    /// <param name="extra">The header's extra fields.</param>
    /// <param name="offset">The header's byte in the file.</param>
    public static ZipSizes Read(ReadOnlySpan<byte> fields, ReadOnlySpan<byte> extra, long offset)
    {
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(fields);
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(fields[4..]);
        uint original = BinaryPrimitives.ReadUInt32LittleEndian(fields[8..]);
        ReadOnlySpan<byte> zip64 = Zip64(extra, offset);
        long originalBytes = Widen(original, ref zip64, offset);
        return new ZipSizes(crc, Widen(stored, ref zip64, offset), originalBytes);
    }

    /// <summary>A number of 32 bits; if all are set, the next number of the ZIP64 field instead.</summary>
    public static long Widen(uint number, ref ReadOnlySpan<byte> zip64, long offset)
    {
        if (number != uint.MaxValue)
        {
            return number;
        }

        long wide = zip64.Length < sizeof(long) ? -1 : BinaryPrimitives.ReadInt64LittleEndian(zip64);
        if (wide < 0)
        {
            throw ImportException.Corrupt("ZIP64 field", offset, "a number of 63 bits", "none");
        }

        zip64 = zip64[sizeof(long)..];
        return wide;
    }

    /// <summary>The ZIP64 field among the extra fields; empty if there is none.</summary>
    public static ReadOnlySpan<byte> Zip64(ReadOnlySpan<byte> extra, long offset)
    {
        ReadOnlySpan<byte> found = default;
        while (extra.Length >= 4)
        {
            int length = BinaryPrimitives.ReadUInt16LittleEndian(extra[2..]);
            if (length > extra.Length - 4)
            {
                throw ImportException.Corrupt("extra field", offset, $"at most {extra.Length - 4} bytes", $"{length}");
            }

            found = BinaryPrimitives.ReadUInt16LittleEndian(extra) == Zip64Tag ? extra.Slice(4, length) : found;
            extra = extra[(4 + length)..];
        }

        return found;
    }
}
