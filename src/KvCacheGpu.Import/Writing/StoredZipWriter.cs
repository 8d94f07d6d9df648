using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Writes a ZIP archive of stored members, each with a ZIP64 field, so that a member may have any length. The stream must be able to seek, because checksums are known last.</summary>
internal sealed class StoredZipWriter(Stream stream)
{
    private const int Version = 45;
    private const int LocalBytes = 30;
    private const int Zip64Bytes = 20;

    private readonly List<(byte[] Name, uint Crc, long Bytes, long Header)> _members = [];

    /// <summary>Writes a member.</summary>
    /// <param name="name">Its name, in ASCII.</param>
    /// <param name="length">Its length.</param>
    /// <param name="content">Is called with a writer, to which it gives all bytes of the member in order.</param>
    public void Add(string name, long length, Action<Action<ReadOnlySpan<byte>>> content)
    {
        byte[] ascii = Encoding.ASCII.GetBytes(name);
        long header = stream.Position;
        WriteLocal(ascii, 0, length);
        Crc32 crc = new();
        long left = length;
        content(bytes =>
        {
            crc.Append(bytes);
            stream.Write(bytes);
            left -= bytes.Length;
        });
        if (left != 0)
        {
            throw new InvalidOperationException($"Member {name} was to have {length} bytes, and {length - left} were given.");
        }

        long end = stream.Position;
        stream.Position = header;
        WriteLocal(ascii, crc.GetCurrentHashAsUInt32(), length);
        stream.Position = end;
        _members.Add((ascii, crc.GetCurrentHashAsUInt32(), length, header));
    }

    /// <summary>Writes the directory.</summary>
    public void Finish()
    {
        long start = stream.Position;
        foreach ((byte[] name, uint crc, long bytes, long header) in _members)
        {
            WriteEntry(name, crc, bytes, header);
        }

        WriteEnd(start, stream.Position - start);
    }

    private void WriteLocal(byte[] name, uint crc, long bytes)
    {
        Span<byte> local = stackalloc byte[LocalBytes + Zip64Bytes];
        local.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(local, 0x04034b50);
        BinaryPrimitives.WriteUInt16LittleEndian(local[4..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(local[14..], crc);
        local.Slice(18, 8).Fill(0xff);
        BinaryPrimitives.WriteUInt16LittleEndian(local[26..], (ushort)name.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(local[28..], Zip64Bytes);
        Zip64(local[LocalBytes..], bytes, bytes);
        stream.Write(local[..LocalBytes]);
        stream.Write(name);
        stream.Write(local[LocalBytes..]);
    }

    private void WriteEntry(byte[] name, uint crc, long bytes, long header)
    {
        const int EntryBytes = 46;
        const int ExtraBytes = Zip64Bytes + sizeof(long);
        Span<byte> entry = stackalloc byte[EntryBytes + ExtraBytes];
        entry.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(entry, 0x02014b50);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[4..], Version);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[6..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], crc);
        entry.Slice(20, 8).Fill(0xff);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[28..], (ushort)name.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[30..], ExtraBytes);
        entry.Slice(42, 4).Fill(0xff);
        Zip64(entry[EntryBytes..], bytes, bytes, header);
        stream.Write(entry[..EntryBytes]);
        stream.Write(name);
        stream.Write(entry[EntryBytes..]);
    }

    private void WriteEnd(long start, long bytes)
    {
        Span<byte> end = stackalloc byte[56 + 20 + 22];
        end.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(end, 0x06064b50);
        BinaryPrimitives.WriteInt64LittleEndian(end[4..], 44);
        BinaryPrimitives.WriteUInt16LittleEndian(end[12..], Version);
        BinaryPrimitives.WriteUInt16LittleEndian(end[14..], Version);
        BinaryPrimitives.WriteInt64LittleEndian(end[24..], _members.Count);
        BinaryPrimitives.WriteInt64LittleEndian(end[32..], _members.Count);
        BinaryPrimitives.WriteInt64LittleEndian(end[40..], bytes);
        BinaryPrimitives.WriteInt64LittleEndian(end[48..], start);
        Span<byte> locator = end[56..];
        BinaryPrimitives.WriteUInt32LittleEndian(locator, 0x07064b50);
        BinaryPrimitives.WriteInt64LittleEndian(locator[8..], start + bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(locator[16..], 1);
        Span<byte> last = locator[20..];
        BinaryPrimitives.WriteUInt32LittleEndian(last, 0x06054b50);
        last.Slice(8, 12).Fill(0xff);
        stream.Write(end);
    }

    private static void Zip64(Span<byte> field, params ReadOnlySpan<long> numbers)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(field, 1);
        BinaryPrimitives.WriteUInt16LittleEndian(field[2..], (ushort)(numbers.Length * sizeof(long)));
        for (int i = 0; i < numbers.Length; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(field[(4 + (i * sizeof(long)))..], numbers[i]);
        }
    }
}
