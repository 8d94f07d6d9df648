namespace KvCacheGpu.Import;

/// <summary>
/// Interprets pickle streams as a closed machine. Its values are a sealed set, a global is a token, REDUCE is a switch over that token,
/// and a stream cannot make any other code run.
/// </summary>
/// <param name="source">The stream.</param>
/// <param name="budget">The rest of the file's limits.</param>
/// <param name="nested">Reads the file that lies as bytes within the stream; null if the stream lies within another one: then no third may lie in it.</param>
internal sealed class PickleMachine(ByteSource source, ReadBudget budget, NestedFile? nested)
{
    private const int HighestProtocol = 5;

    private readonly PickleInput _input = new(source, budget);
    private readonly PickleAtoms _atoms = new(budget);
    private readonly PickleCalls _calls = new(budget, nested);
    private readonly PickleStack _stack = new();
    private readonly Dictionary<int, PickleValue> _memo = [];
    private int _nextBuffer;

    /// <summary>Answers BINPERSID; null if a stream has no persistent ids.</summary>
    public Func<PickleValue, long, PickleValue>? PersistentIds { get; set; }

    /// <summary>The buffers that were kept out of the stream, in order.</summary>
    public IReadOnlyList<ByteSource> Buffers { get; init; } = [];

    /// <summary>True if the stream may name torch.FloatTensor and the like, as only tar files do.</summary>
    public bool AllowsTensorClasses { get; init; }

    /// <summary>Number of buffers that the stream has asked for.</summary>
    public int BuffersUsed => _nextBuffer;

    /// <summary>The bytes that follow the last STOP.</summary>
    public PickleInput Input => _input;

    /// <summary>Reads one pickle, up to its STOP.</summary>
    /// <exception cref="ImportException">The stream is corrupt, beyond a limit, or holds what is not read here.</exception>
    public PickleValue Run()
    {
        _stack.Clear();
        _memo.Clear();
        ReadProtocol();
        while (true)
        {
            _stack.At = _input.Offset;
            budget.CountOpcode(_stack.At);
            Opcode opcode = (Opcode)_input.ReadByte();
            if (opcode == Opcode.STOP)
            {
                return Stop();
            }

            Step(opcode);
            ReadBudget.Check("stack", _stack.Count, budget.Limits.StackValues, _stack.At);
        }
    }

    private void ReadProtocol()
    {
        _stack.At = _input.Offset;
        if (_input.Remaining == 0)
        {
            throw ImportException.Corrupt("pickle", _stack.At, "a stream", "its end");
        }

        Opcode first = (Opcode)_input.ReadByte();
        if (first != Opcode.PROTO)
        {
            throw ImportException.Unsupported(NameOf(first), _stack.At, "PROTO first, as protocols 2 to 5 have it", "another opcode");
        }

        int protocol = _input.ReadByte();
        if (protocol is < 2 or > HighestProtocol)
        {
            throw ImportException.Unsupported("PROTO", _stack.At, $"2 to {HighestProtocol}", $"{protocol}");
        }
    }

    private PickleValue Stop()
    {
        if (_stack.Count != 1 || _stack.Marks != 0)
        {
            throw ImportException.Corrupt("STOP", _stack.At, "one value on the stack", $"{_stack.Count} values and {_stack.Marks} marks");
        }

        return _stack.Pop() is var value and not TensorValue { Tensor: null }
            ? value
            : throw ImportException.Corrupt("array", _stack.At, "its BUILD before the end", "none");
    }

    private void Step(Opcode opcode)
    {
        switch (opcode)
        {
            case Opcode.FRAME:
                _input.CheckLength("FRAME", (ulong)_input.ReadInt64());
                break;
            case Opcode.MARK:
                ReadBudget.Check("MARK depth", _stack.Marks + 1, budget.Limits.MarkDepth, _stack.At);
                _stack.Mark();
                break;
            case Opcode.GLOBAL:
                string module = _input.ReadLine("GLOBAL");
                _stack.Push(Global(module, _input.ReadLine("GLOBAL")));
                break;
            case Opcode.STACK_GLOBAL:
                string name = GlobalPart();
                _stack.Push(Global(GlobalPart(), name));
                break;
            case Opcode.REDUCE:
                PickleValue arguments = _stack.Pop();
                _stack.Push(_calls.Reduce(_stack.Pop(), arguments, _stack.At));
                break;
            case Opcode.BUILD:
                PickleValue state = _stack.Pop();
                _calls.Build(_stack.Top(), state, _stack.At);
                break;
            case Opcode.BINPERSID:
                _stack.Push(PersistentIds is { } ids ? ids(_stack.Pop(), _stack.At) : throw ImportException.Unsupported("BINPERSID", _stack.At, "a persistent id in torch files only", "one"));
                break;
            default:
                if (!PushAtom(opcode) && !Contain(opcode) && !Remember(opcode))
                {
                    throw ImportException.Unsupported(NameOf(opcode), _stack.At, "an opcode that plain data needs", $"0x{(byte)opcode:x2}");
                }

                break;
        }
    }

    private GlobalValue Global(string module, string name)
    {
        GlobalValue global = PickleGlobals.Find(module, name, _stack.At);
        return global.Global != PickleGlobal.TensorClass || AllowsTensorClasses
            ? global
            : throw ImportException.Unsupported($"global {global.Name}", _stack.At, "it in tar files only", "it elsewhere");
    }

    private string GlobalPart()
    {
        PickleValue value = _stack.Pop();
        string part = (value as TextValue ?? throw ImportException.Unexpected("STACK_GLOBAL", _stack.At, "a text", value)).Value;
        ReadBudget.Check("STACK_GLOBAL", part.Length, budget.Limits.GlobalNameBytes, _stack.At);
        return part;
    }

    private bool PushAtom(Opcode opcode)
    {
        PickleValue? value = opcode switch
        {
            Opcode.NEXT_BUFFER => NextBuffer(),
            Opcode.READONLY_BUFFER => _stack.Pop() as BytesValue ?? throw ImportException.Corrupt("READONLY_BUFFER", _stack.At, "a buffer", "another value"),
            _ => _atoms.Read(opcode, _input, _stack.At),
        };
        if (value is not null)
        {
            _stack.Push(value);
        }

        return value is not null;
    }

    private BytesValue NextBuffer() => _nextBuffer < Buffers.Count
        ? new BytesValue(Buffers[_nextBuffer++])
        : throw ImportException.Corrupt("NEXT_BUFFER", _stack.At, $"one of {Buffers.Count} buffers beside the stream", "one more");

    private bool Contain(Opcode opcode)
    {
        switch (opcode)
        {
            case Opcode.EMPTY_TUPLE:
                _stack.Push(new TupleValue([], budget, _stack.At));
                return true;
            case Opcode.TUPLE:
                _stack.Push(new TupleValue(_stack.PopToMark(), budget, _stack.At));
                return true;
            case Opcode.TUPLE1 or Opcode.TUPLE2 or Opcode.TUPLE3:
                PickleValue[] items = new PickleValue[opcode - Opcode.TUPLE1 + 1];
                for (int i = items.Length - 1; i >= 0; i--)
                {
                    items[i] = _stack.Pop();
                }

                _stack.Push(new TupleValue(items, budget, _stack.At));
                return true;
            case Opcode.EMPTY_LIST:
                _stack.Push(new ListValue());
                return true;
            case Opcode.APPEND:
                Append([_stack.Pop()]);
                return true;
            case Opcode.APPENDS:
                Append(_stack.PopToMark());
                return true;
            case Opcode.EMPTY_DICT:
                _stack.Push(new DictValue());
                return true;
            case Opcode.SETITEM:
                PickleValue value = _stack.Pop();
                SetItems([_stack.Pop(), value]);
                return true;
            case Opcode.SETITEMS:
                SetItems(_stack.PopToMark());
                return true;
            default:
                return false;
        }
    }

    private void Append(PickleValue[] items)
    {
        ListValue list = _stack.Top() as ListValue ?? throw ImportException.Unexpected("APPEND", _stack.At, "a list", _stack.Top());
        foreach (PickleValue item in items)
        {
            list.Add(item, budget, _stack.At);
        }
    }

    private void SetItems(PickleValue[] items)
    {
        DictValue dict = _stack.Top() as DictValue ?? throw ImportException.Unexpected("SETITEM", _stack.At, "a dict", _stack.Top());
        if (items.Length % 2 != 0)
        {
            throw ImportException.Corrupt("SETITEMS", _stack.At, "pairs of key and value", $"{items.Length} values");
        }

        for (int i = 0; i < items.Length; i += 2)
        {
            dict.Add(items[i], items[i + 1], budget, _stack.At);
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
        ReadBudget.Check(NameOf(opcode), (Int128)index + 1, budget.Limits.MemoEntries, _stack.At);
        _memo[(int)index] = _stack.Top();
    }

    private void Get(Opcode opcode, uint index) => _stack.Push(
        index <= int.MaxValue && _memo.TryGetValue((int)index, out PickleValue? value)
            ? value
            : throw ImportException.Corrupt(NameOf(opcode), _stack.At, "an index that the memo has", $"{index}"));

    private static string NameOf(Opcode opcode) => Enum.IsDefined(opcode) ? opcode.ToString() : $"opcode 0x{(byte)opcode:x2}";
}
