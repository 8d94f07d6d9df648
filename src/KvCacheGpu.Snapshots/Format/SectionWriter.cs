using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace KvCacheGpu;

/// <summary>Writes a table: numbers little end first, texts as int32 length (-1 for null) and UTF-8.</summary>
internal sealed class SectionWriter
{
    private readonly ArrayBufferWriter<byte> _bytes = new();

    public ReadOnlySpan<byte> Written => _bytes.WrittenSpan;

    public ReadOnlyMemory<byte> WrittenMemory => _bytes.WrittenMemory;

    public void Byte(byte value) => _bytes.Write([value]);

    public void UInt16(int value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.GetSpan(sizeof(ushort)), checked((ushort)value));
        _bytes.Advance(sizeof(ushort));
    }

    public void Int32(int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(_bytes.GetSpan(sizeof(int)), value);
        _bytes.Advance(sizeof(int));
    }

    public void Int64(long value)
    {
        BinaryPrimitives.WriteInt64LittleEndian(_bytes.GetSpan(sizeof(long)), value);
        _bytes.Advance(sizeof(long));
    }

    public void Hash(UInt128 value)
    {
        BinaryPrimitives.WriteUInt128LittleEndian(_bytes.GetSpan(16), value);
        _bytes.Advance(16);
    }

    public void Text(string? value)
    {
        Int32(value is null ? -1 : KvText.Strict.GetByteCount(value));
        KvText.Strict.GetBytes(value ?? "", _bytes);
    }

    public void Bytes(ReadOnlySpan<byte> value) => _bytes.Write(value);

    public void Ints(ReadOnlySpan<int> values)
    {
        if (BitConverter.IsLittleEndian)
        {
            Bytes(MemoryMarshal.AsBytes(values));
            return;
        }

        foreach (int value in values)
        {
            Int32(value);
        }
    }
}
