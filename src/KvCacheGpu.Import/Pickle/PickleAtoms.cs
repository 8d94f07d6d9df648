using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Reads the values that hold no others: numbers, texts and byte strings.</summary>
internal sealed class PickleAtoms(ReadBudget budget)
{
    private static readonly UTF8Encoding _utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads the value of an opcode.</summary>
    /// <param name="opcode">The opcode.</param>
    /// <param name="input">The stream, behind the opcode.</param>
    /// <param name="at">The opcode's byte in the file.</param>
    /// <returns>The value; null if the opcode makes no such value.</returns>
    /// <exception cref="ImportException">The value is corrupt or beyond a limit.</exception>
    public PickleValue? Read(Opcode opcode, PickleInput input, long at) => opcode switch
    {
        Opcode.NONE => new NoneValue(),
        Opcode.NEWTRUE => new BoolValue(true),
        Opcode.NEWFALSE => new BoolValue(false),
        Opcode.BININT => new IntegerValue(input.ReadInt32()),
        Opcode.BININT1 => new IntegerValue(input.ReadByte()),
        Opcode.BININT2 => new IntegerValue(input.ReadUInt16()),
        Opcode.LONG1 => ReadInteger(input, input.ReadByte(), at),
        Opcode.LONG4 => ReadInteger(input, input.ReadInt32(), at),
        Opcode.BINFLOAT => new FloatValue(input.ReadDouble()),
        Opcode.SHORT_BINUNICODE => ReadText(input, input.ReadByte(), _utf8, at),
        Opcode.BINUNICODE => ReadText(input, (uint)input.ReadInt32(), _utf8, at),
        Opcode.BINUNICODE8 => ReadText(input, (ulong)input.ReadInt64(), _utf8, at),
        Opcode.SHORT_BINSTRING => ReadText(input, input.ReadByte(), Encoding.Latin1, at),
        Opcode.SHORT_BINBYTES => ReadBytes(input, "SHORT_BINBYTES", input.ReadByte()),
        Opcode.BINBYTES => ReadBytes(input, "BINBYTES", (uint)input.ReadInt32()),
        Opcode.BINBYTES8 => ReadBytes(input, "BINBYTES8", (ulong)input.ReadInt64()),
        Opcode.BYTEARRAY8 => ReadBytes(input, "BYTEARRAY8", (ulong)input.ReadInt64()),
        _ => null,
    };

    private IntegerValue ReadInteger(PickleInput input, int length, long at)
    {
        if (length < 0 || length > Math.Min(16, budget.Limits.IntegerBytes))
        {
            throw ImportException.Corrupt("integer", at, $"0 to {Math.Min(16, budget.Limits.IntegerBytes)} bytes", $"{length}");
        }

        ReadOnlySpan<byte> bytes = input.Read(length);
        Int128 value = length > 0 && bytes[^1] >= 0x80 ? Int128.NegativeOne : Int128.Zero;
        for (int i = length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return new IntegerValue(value);
    }

    private TextValue ReadText(PickleInput input, ulong length, Encoding encoding, long at)
    {
        input.CheckLength("text", length);
        ReadBudget.Check("text", length, budget.Limits.TextBytes, at);
        try
        {
            return new TextValue(encoding.GetString(input.Read((int)length)));
        }
        catch (DecoderFallbackException)
        {
            throw ImportException.Corrupt("text", at, "UTF-8", "other bytes");
        }
    }

    private static BytesValue ReadBytes(PickleInput input, string opcode, ulong length) => new(input.Payload(opcode, length));
}
