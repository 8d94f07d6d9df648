using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>Reads a stream through a window. Every length is checked against the bytes that remain before anything is allocated or skipped.</summary>
internal sealed class PickleInput(ByteSource source, ReadBudget budget)
{
    private const int WindowBytes = 16 << 10;

    private readonly byte[] _window = new byte[Math.Min(WindowBytes, source.Length)];
    private long _windowStart;
    private int _windowBytes;

    /// <summary>Position of the next byte, counted from the source's start.</summary>
    public long Position { get; private set; }

    /// <summary>Position of the next byte, counted from the file's start.</summary>
    public long Offset => source.Origin + Position;

    /// <summary>Number of bytes that follow.</summary>
    public long Remaining => source.Length - Position;

    public byte ReadByte() => Read(1)[0];

    public ushort ReadUInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Read(2));

    public int ReadInt32() => BinaryPrimitives.ReadInt32LittleEndian(Read(4));

    public long ReadInt64() => BinaryPrimitives.ReadInt64LittleEndian(Read(8));

    public double ReadDouble() => BinaryPrimitives.ReadDoubleBigEndian(Read(8));

    /// <summary>Checks a length that a file gives against the bytes that remain.</summary>
    public void CheckLength(string what, ulong length)
    {
        if (length > (ulong)Remaining)
        {
            throw ImportException.Corrupt(what, Offset, $"at most the {Remaining} bytes that remain", $"{length}");
        }
    }

    /// <summary>Reads bytes of the stream, which are valid until the next read.</summary>
    public ReadOnlySpan<byte> Read(int count)
    {
        CheckLength("stream", (ulong)count);
        budget.CountPickle(count, Offset);
        if (count > _window.Length)
        {
            byte[] whole = new byte[count];
            source.Read(Position, whole);
            Position += count;
            return whole;
        }

        if (Position < _windowStart || Position + count > _windowStart + _windowBytes)
        {
            _windowStart = Position;
            _windowBytes = (int)Math.Min(_window.Length, Remaining);
            source.Read(Position, _window.AsSpan(0, _windowBytes));
        }

        ReadOnlySpan<byte> bytes = _window.AsSpan((int)(Position - _windowStart), count);
        Position += count;
        return bytes;
    }

    /// <summary>Skips the content of a byte string, which is read in place later.</summary>
    public ByteSource Payload(string what, ulong length)
    {
        CheckLength(what, length);
        ByteSource payload = source.Slice(Position, (long)length);
        Position += (long)length;
        return payload;
    }

    /// <summary>Reads a line of ASCII without its end: a module or a name.</summary>
    public string ReadLine(string what)
    {
        Span<char> line = stackalloc char[budget.Limits.GlobalNameBytes + 1];
        for (int length = 0; ; length++)
        {
            byte next = ReadByte();
            if (next == '\n')
            {
                return new string(line[..length]);
            }

            ReadBudget.Check(what, length + 1, budget.Limits.GlobalNameBytes, Offset);
            line[length] = next < 0x80 ? (char)next : throw ImportException.Corrupt(what, Offset - 1, "ASCII", $"byte {next}");
        }
    }
}
