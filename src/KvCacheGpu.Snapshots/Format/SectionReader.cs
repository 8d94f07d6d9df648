using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>Reads a table: every count is held against the bytes that are left before memory is taken for it.</summary>
internal ref struct SectionReader(ReadOnlySpan<byte> bytes, string what)
{
    private ReadOnlySpan<byte> _left = bytes;

    public readonly int Left => _left.Length;

    public ReadOnlySpan<byte> Bytes(long count)
    {
        if (count < 0 || count > _left.Length)
        {
            throw Flaw($"{count} bytes", $"{_left.Length}");
        }

        ReadOnlySpan<byte> taken = _left[..(int)count];
        _left = _left[(int)count..];
        return taken;
    }

    public byte Byte() => Bytes(1)[0];

    public int UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Bytes(sizeof(ushort)));

    public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Bytes(sizeof(int)));

    public long Int64() => BinaryPrimitives.ReadInt64LittleEndian(Bytes(sizeof(long)));

    public UInt128 Hash() => BinaryPrimitives.ReadUInt128LittleEndian(Bytes(16));

    /// <summary>A count of things that take at least <paramref name="leastBytes"/> each.</summary>
    public int Count(int leastBytes, int most, string things)
    {
        int count = Int32();
        return count < 0 || count > most || (long)count * leastBytes > _left.Length
            ? throw Flaw($"0..{Math.Min(most, _left.Length / leastBytes)} {things}", $"{count}")
            : count;
    }

    public string? TextOrNull()
    {
        int length = Int32();
        if (length is < -1 or > SnapshotLimits.TextBytes)
        {
            throw Flaw($"a text of at most {SnapshotLimits.TextBytes} bytes", $"{length}");
        }

        try
        {
            return length < 0 ? null : KvText.Strict.GetString(Bytes(length));
        }
        catch (ArgumentException)
        {
            throw Flaw("UTF-8", "other bytes");
        }
    }

    public string Text() => TextOrNull() ?? throw Flaw("a text", "null");

    public int[] Ints(int count)
    {
        ReadOnlySpan<byte> source = Bytes((long)count * sizeof(int));
        int[] values = new int[count];
        if (BitConverter.IsLittleEndian)
        {
            source.CopyTo(MemoryMarshal.AsBytes(values.AsSpan()));
            return values;
        }

        for (int i = 0; i < count; i++)
        {
            values[i] = BinaryPrimitives.ReadInt32LittleEndian(source[(i * sizeof(int))..]);
        }

        return values;
    }

    /// <summary>Nothing may follow.</summary>
    public readonly void End()
    {
        if (_left.Length != 0)
        {
            throw Flaw("its end", $"{_left.Length} more bytes");
        }
    }

    public readonly KvCorruptionException Flaw(string expected, string actual) => new(what, expected, actual);
}
