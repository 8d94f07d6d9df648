using System.Text;

namespace KvCacheGpu.Import;

/// <summary>
/// Interprets pickle streams: a closed machine. Its values are a sealed set, a global is a token, REDUCE is a switch over that token,
/// and there is no path from a stream to any code but this.
/// </summary>
internal sealed partial class PickleMachine(ByteSource source, ReadBudget budget)
{
    private const int HighestProtocol = 5;

    private static readonly UTF8Encoding _utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly PickleInput _input = new(source, budget);
    private readonly List<PickleValue> _stack = [];
    private readonly List<int> _marks = [];
    private readonly Dictionary<int, PickleValue> _memo = [];
    private int _protocol;
    private int _nextBuffer;
    private long _at;

    /// <summary>Answers BINPERSID; null where a stream has no persistent ids.</summary>
    public Func<PickleValue, long, PickleValue>? PersistentIds { get; set; }

    /// <summary>The buffers that were kept out of the stream, in order.</summary>
    public IReadOnlyList<ByteSource> Buffers { get; init; } = [];

    /// <summary>Whether the stream lies within another one: then no third may lie in it.</summary>
    public bool IsNested { get; init; }

    /// <summary>Whether torch.FloatTensor and its like may be named, as only tar files do.</summary>
    public bool AllowsTensorClasses { get; init; }

    /// <summary>How many of the buffers were asked for.</summary>
    public int BuffersUsed => _nextBuffer;

    /// <summary>What follows the last STOP.</summary>
    public PickleInput Input => _input;

    /// <summary>Reads one pickle, up to its STOP.</summary>
    /// <exception cref="ImportException">The stream is corrupt, beyond a limit, or holds what is not read here.</exception>
    public PickleValue Run()
    {
        _stack.Clear();
        _marks.Clear();
        _memo.Clear();
        ReadProtocol();
        while (true)
        {
            _at = _input.Offset;
            budget.CountOpcode(_at);
            Opcode opcode = (Opcode)_input.ReadByte();
            if (opcode == Opcode.STOP)
            {
                return Stop();
            }

            Step(opcode);
            ReadBudget.Check("stack", _stack.Count, budget.Limits.StackValues, _at);
        }
    }

    private void ReadProtocol()
    {
        _at = _input.Offset;
        if (_input.Remaining == 0)
        {
            throw ImportException.Corrupt("pickle", _at, "a stream", "its end");
        }

        Opcode first = (Opcode)_input.ReadByte();
        if (first != Opcode.PROTO)
        {
            throw ImportException.Unsupported(NameOf(first), _at, "PROTO first, as protocols 2 to 5 have it", "another opcode");
        }

        _protocol = _input.ReadByte();
        if (_protocol is < 2 or > HighestProtocol)
        {
            throw ImportException.Unsupported("PROTO", _at, $"2 to {HighestProtocol}", $"{_protocol}");
        }
    }

    private PickleValue Stop()
    {
        if (_stack.Count != 1 || _marks.Count != 0)
        {
            throw ImportException.Corrupt("STOP", _at, "one value on the stack", $"{_stack.Count} values and {_marks.Count} marks");
        }

        return _stack[0] is TensorValue { Tensor: null } ? throw ImportException.Corrupt("array", _at, "its BUILD before the end", "none") : _stack[0];
    }

    private void Step(Opcode opcode)
    {
        switch (opcode)
        {
            case Opcode.FRAME:
                _input.CheckLength("FRAME", (ulong)_input.ReadInt64());
                break;
            case Opcode.MARK:
                ReadBudget.Check("MARK depth", _marks.Count + 1, budget.Limits.MarkDepth, _at);
                _marks.Add(_stack.Count);
                break;
            case Opcode.GLOBAL:
                string module = _input.ReadLine("GLOBAL");
                Push(Global(module, _input.ReadLine("GLOBAL")));
                break;
            case Opcode.STACK_GLOBAL:
                string name = GlobalPart();
                Push(Global(GlobalPart(), name));
                break;
            case Opcode.REDUCE:
                PickleValue arguments = Pop();
                Push(Reduce(Pop(), arguments));
                break;
            case Opcode.BUILD:
                PickleValue state = Pop();
                Build(Top(), state);
                break;
            case Opcode.BINPERSID:
                Push(PersistentIds is { } ids ? ids(Pop(), _at) : throw ImportException.Unsupported("BINPERSID", _at, "a persistent id in torch files only", "one"));
                break;
            default:
                if (!PushAtom(opcode) && !Contain(opcode) && !Remember(opcode))
                {
                    throw ImportException.Unsupported(NameOf(opcode), _at, "an opcode that plain data needs", $"0x{(byte)opcode:x2}");
                }

                break;
        }
    }

    private GlobalValue Global(string module, string name)
    {
        GlobalValue global = PickleGlobals.Find(module, name, _at);
        return global.Global != PickleGlobal.TensorClass || AllowsTensorClasses
            ? global
            : throw ImportException.Unsupported($"global {global.Name}", _at, "it in tar files only", "it elsewhere");
    }

    private string GlobalPart()
    {
        string part = Pop<TextValue>("STACK_GLOBAL").Value;
        ReadBudget.Check("STACK_GLOBAL", part.Length, budget.Limits.GlobalNameBytes, _at);
        return part;
    }

    private void Push(PickleValue value) => _stack.Add(value);

    private PickleValue Top() => _stack.Count > Floor ? _stack[^1] : throw Underflow();

    private PickleValue Pop()
    {
        PickleValue top = Top();
        _stack.RemoveAt(_stack.Count - 1);
        return top;
    }

    private T Pop<T>(string what)
        where T : PickleValue
    {
        PickleValue value = Pop();
        return value as T ?? throw Unexpected(what, typeof(T) == typeof(TextValue) ? "a text" : "a container of its kind", value);
    }

    private PickleValue[] PopToMark()
    {
        if (_marks.Count == 0)
        {
            throw ImportException.Corrupt("mark", _at, "a MARK before it", "none");
        }

        int mark = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        PickleValue[] items = [.. _stack[mark..]];
        _stack.RemoveRange(mark, items.Length);
        return items;
    }

    // What lies under the last mark is out of reach until that is taken away.
    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    private ImportException Underflow() => ImportException.Corrupt("stack", _at, "a value", "none");

    private ImportException Unexpected(string what, string expected, PickleValue actual) =>
        ImportException.Corrupt(what, _at, expected, PickleKeys.Describe(actual));

    private static string NameOf(Opcode opcode) => Enum.IsDefined(opcode) ? opcode.ToString() : $"opcode 0x{(byte)opcode:x2}";
}
