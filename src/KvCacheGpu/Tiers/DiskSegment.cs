namespace KvCacheGpu;

/// <summary>A block's place on the disk.</summary>
/// <param name="Segment">Its file.</param>
/// <param name="Slot">Which of the file's records it is.</param>
/// <param name="Sum">CRC-32C of the block.</param>
internal readonly record struct DiskPlace(DiskSegment Segment, int Slot, uint Sum);

/// <summary>A file of blocks of one length: <see cref="DiskFormat"/>. One thread writes; any read what is written.</summary>
internal sealed class DiskSegment
{
    private readonly OpenFile _file;
    private readonly List<(BlockHash Key, uint Sum)> _records = [];
    private long _reached;

    private DiskSegment(OpenFile file, string name, int length, long bytes) => (_file, Name, Length, _reached) = (file, name, length, bytes);

    /// <summary>Name of the file.</summary>
    public string Name { get; }

    /// <summary>Bytes of each block.</summary>
    public int Length { get; }

    /// <summary>The records, by slot. One without a key is damaged.</summary>
    public IReadOnlyList<(BlockHash Key, uint Sum)> Records => _records;

    /// <summary>Bytes that a record takes.</summary>
    public long RecordBytes => DiskFormat.HeaderBytes + (long)Length;

    /// <summary>Bytes that the file may have: more than its records have where a write has failed.</summary>
    public long Bytes => _reached;

    /// <summary>Bytes of the file once another block is written.</summary>
    public long BytesWithOneMore => OffsetOf(_records.Count + 1);

    /// <summary>The last turn in which a block of it was written, as the folder counts them; 0 without a block.</summary>
    public long LastTurn { get; private set; }

    /// <summary>When it was last used, as the index counts.</summary>
    public long LastUse { get; set; }

    /// <summary>Reads that have not ended.</summary>
    public int Readers { get; set; }

    /// <summary>True once no block of it can be found any longer.</summary>
    public bool IsDropped { get; set; }

    /// <summary>Makes a file without blocks.</summary>
    public static DiskSegment Create(OpenFile directory, string name, int length)
    {
        OpenFile file = directory.Open(name, FileUse.Create);
        try
        {
            Span<byte> header = stackalloc byte[DiskFormat.HeaderBytes];
            DiskFormat.WriteHeader(header, length);
            file.Write(header, 0);
            return new DiskSegment(file, name, length, header.Length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Opens a file, and reads the headers of its records.</summary>
    /// <exception cref="KvCacheException">What <see cref="DiskFormat.ReadHeader"/> throws.</exception>
    public static DiskSegment Open(OpenFile directory, string name)
    {
        OpenFile file = directory.Open(name, FileUse.Change);
        try
        {
            long bytes = file.Length;
            Span<byte> header = stackalloc byte[DiskFormat.HeaderBytes];
            Span<byte> first = header[..(int)Math.Min(bytes, header.Length)];
            file.Read(first, 0);
            var segment = new DiskSegment(file, name, DiskFormat.ReadHeader(first, name), bytes);
            while (segment.Length > 0 && segment.OffsetOf(segment._records.Count + 1) <= bytes)
            {
                file.Read(header, segment.OffsetOf(segment._records.Count));
                bool isWhole = DiskFormat.TryReadRecord(header, segment.Length, out BlockHash key, out uint sum, out long turn);
                segment._records.Add(isWhole ? (key, sum) : default);
                segment.LastTurn = isWhole ? Math.Max(segment.LastTurn, turn) : segment.LastTurn;
            }

            // What a crash left at the end is written over.
            segment._records.RemoveRange(segment.LastWhole + 1, segment._records.Count - segment.LastWhole - 1);
            return segment;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reads a block.</summary>
    /// <exception cref="KvCorruptionException">It is not what was written.</exception>
    public void Read(int slot, uint sum, Span<byte> block)
    {
        _file.Read(block, OffsetOf(slot) + DiskFormat.HeaderBytes);
        uint found = Crc32C.Of(block);
        if (found != sum)
        {
            throw new KvCorruptionException($"block {slot} of {Name}", $"CRC-32C {sum:x8}", $"{found:x8}");
        }
    }

    /// <summary>Writes a block after the others: its bytes, and when all are there, what names them. It is not among <see cref="Records"/> yet.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="block">The block.</param>
    /// <param name="turn">Which write of the folder it is.</param>
    /// <returns>Its checksum.</returns>
    public uint Write(in BlockHash key, ReadOnlySpan<byte> block, long turn)
    {
        long offset = OffsetOf(_records.Count);
        uint sum = Crc32C.Of(block);
        _reached = Math.Max(_reached, offset + RecordBytes);
        Span<byte> header = stackalloc byte[DiskFormat.HeaderBytes];
        DiskFormat.WriteRecord(header, key, Length, sum, turn);
        _file.Write(block, offset + DiskFormat.HeaderBytes);
        _file.Write(header, offset);
        LastTurn = turn;
        return sum;
    }

    /// <summary>Adds what <see cref="Write"/> has written.</summary>
    public void Add(in BlockHash key, uint sum) => _records.Add((key, sum));

    /// <summary>Closes the file.</summary>
    public void Close() => _file.Dispose();

    private int LastWhole => _records.FindLastIndex(record => !record.Key.IsNull);

    private long OffsetOf(int slot) => DiskFormat.HeaderBytes + (slot * RecordBytes);
}
