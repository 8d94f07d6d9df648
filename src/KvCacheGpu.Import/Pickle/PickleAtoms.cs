using System.Text;

namespace KvCacheGpu.Import;

/// <content>Values, containers and the memo.</content>
internal sealed partial class PickleMachine
{
    private bool PushAtom(Opcode opcode)
    {
        PickleValue? value = opcode switch
        {
            Opcode.NONE => new NoneValue(),
            Opcode.NEWTRUE => new BoolValue(true),
            Opcode.NEWFALSE => new BoolValue(false),
            Opcode.BININT => new IntegerValue(_input.ReadInt32()),
            Opcode.BININT1 => new IntegerValue(_input.ReadByte()),
            Opcode.BININT2 => new IntegerValue(_input.ReadUInt16()),
            Opcode.LONG1 => ReadInteger(_input.ReadByte()),
            Opcode.LONG4 => ReadInteger(_input.ReadInt32()),
            Opcode.BINFLOAT => new FloatValue(_input.ReadDouble()),
            Opcode.SHORT_BINUNICODE => ReadText(_input.ReadByte(), _utf8),
            Opcode.BINUNICODE => ReadText((uint)_input.ReadInt32(), _utf8),
            Opcode.BINUNICODE8 => ReadText((ulong)_input.ReadInt64(), _utf8),
            Opcode.SHORT_BINSTRING => ReadText(_input.ReadByte(), Encoding.Latin1),
            Opcode.SHORT_BINBYTES => ReadBytes("SHORT_BINBYTES", _input.ReadByte()),
            Opcode.BINBYTES => ReadBytes("BINBYTES", (uint)_input.ReadInt32()),
            Opcode.BINBYTES8 => ReadBytes("BINBYTES8", (ulong)_input.ReadInt64()),
            Opcode.BYTEARRAY8 => ReadBytes("BYTEARRAY8", (ulong)_input.ReadInt64()),
            Opcode.NEXT_BUFFER => NextBuffer(),
            Opcode.READONLY_BUFFER => Pop() as BytesValue ?? throw ImportException.Corrupt("READONLY_BUFFER", _at, "a buffer", "another value"),
            _ => null,
        };
        if (value is not null)
        {
            Push(value);
        }

        return value is not null;
    }

    private IntegerValue ReadInteger(int length)
    {
        if (length < 0 || length > Math.Min(16, budget.Limits.IntegerBytes))
        {
            throw ImportException.Corrupt("integer", _at, $"0 to {Math.Min(16, budget.Limits.IntegerBytes)} bytes", $"{length}");
        }

        ReadOnlySpan<byte> bytes = _input.Read(length);
        Int128 value = length > 0 && bytes[^1] >= 0x80 ? Int128.NegativeOne : Int128.Zero;
        for (int i = length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return new IntegerValue(value);
    }

    private TextValue ReadText(ulong length, Encoding encoding)
    {
        _input.CheckLength("text", length);
        ReadBudget.Check("text", length, budget.Limits.TextBytes, _at);
        try
        {
            return new TextValue(encoding.GetString(_input.Read((int)length)));
        }
        catch (DecoderFallbackException)
        {
            throw ImportException.Corrupt("text", _at, "UTF-8", "other bytes");
        }
    }

    private BytesValue ReadBytes(string opcode, ulong length) => new(_input.Payload(opcode, length));

    private BytesValue NextBuffer() => _nextBuffer < Buffers.Count
        ? new BytesValue(Buffers[_nextBuffer++])
        : throw ImportException.Corrupt("NEXT_BUFFER", _at, $"one of {Buffers.Count} buffers beside the stream", "one more");

    private bool Contain(Opcode opcode)
    {
        switch (opcode)
        {
            case Opcode.EMPTY_TUPLE:
                Push(new TupleValue([], budget, _at));
                return true;
            case Opcode.TUPLE:
                Push(new TupleValue(PopToMark(), budget, _at));
                return true;
            case Opcode.TUPLE1 or Opcode.TUPLE2 or Opcode.TUPLE3:
                PickleValue[] items = new PickleValue[opcode - Opcode.TUPLE1 + 1];
                for (int i = items.Length - 1; i >= 0; i--)
                {
                    items[i] = Pop();
                }

                Push(new TupleValue(items, budget, _at));
                return true;
            case Opcode.EMPTY_LIST:
                Push(new ListValue());
                return true;
            case Opcode.APPEND:
                Append([Pop()]);
                return true;
            case Opcode.APPENDS:
                Append(PopToMark());
                return true;
            case Opcode.EMPTY_DICT:
                Push(new DictValue());
                return true;
            case Opcode.SETITEM:
                PickleValue value = Pop();
                SetItems([Pop(), value]);
                return true;
            case Opcode.SETITEMS:
                SetItems(PopToMark());
                return true;
            default:
                return false;
        }
    }

    private void Append(PickleValue[] items)
    {
        ListValue list = Top() as ListValue ?? throw Unexpected("APPEND", "a list", Top());
        foreach (PickleValue item in items)
        {
            list.Add(item, budget, _at);
        }
    }

    private void SetItems(PickleValue[] items)
    {
        DictValue dict = Top() as DictValue ?? throw Unexpected("SETITEM", "a dict", Top());
        if (items.Length % 2 != 0)
        {
            throw ImportException.Corrupt("SETITEMS", _at, "pairs of key and value", $"{items.Length} values");
        }

        for (int i = 0; i < items.Length; i += 2)
        {
            dict.Add(items[i], items[i + 1], budget, _at);
        }
    }

    private bool Remember(Opcode opcode)
    {
        switch (opcode)
        {
            case Opcode.BINPUT:
                Put(opcode, _input.ReadByte());
                return true;
            case Opcode.LONG_BINPUT:
                Put(opcode, (uint)_input.ReadInt32());
                return true;
            case Opcode.MEMOIZE:
                Put(opcode, (uint)_memo.Count);
                return true;
            case Opcode.BINGET:
                Get(opcode, _input.ReadByte());
                return true;
            case Opcode.LONG_BINGET:
                Get(opcode, (uint)_input.ReadInt32());
                return true;
            default:
                return false;
        }
    }

    private void Put(Opcode opcode, uint index)
    {
        ReadBudget.Check(NameOf(opcode), (Int128)index + 1, budget.Limits.MemoEntries, _at);
        _memo[(int)index] = Top();
    }

    private void Get(Opcode opcode, uint index) => Push(
        index <= int.MaxValue && _memo.TryGetValue((int)index, out PickleValue? value)
            ? value
            : throw ImportException.Corrupt(NameOf(opcode), _at, "an index that the memo has", $"{index}"));
}
