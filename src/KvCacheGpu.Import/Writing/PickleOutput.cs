using System.Buffers.Binary;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Writes the opcodes of protocol 2 that a dict of tensors needs.</summary>
internal sealed class PickleOutput
{
    // Two names must not become one, so a text that UTF-8 cannot encode is refused by an ArgumentException.
    private static readonly UTF8Encoding _strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly List<byte> _bytes = [];

    public PickleOutput()
    {
        Write(Opcode.PROTO);
        _bytes.Add(2);
    }

    public void Write(Opcode opcode) => _bytes.Add((byte)opcode);

    public void Global(string module, string name)
    {
        Write(Opcode.GLOBAL);
        _bytes.AddRange(Encoding.ASCII.GetBytes($"{module}\n{name}\n"));
    }

    public void Text(string text)
    {
        byte[] utf8 = _strict.GetBytes(text);
        Write(Opcode.BINUNICODE);
        Number(utf8.Length, sizeof(int));
        _bytes.AddRange(utf8);
    }

    public void Integer(long value)
    {
        Write(Opcode.LONG1);
        _bytes.Add(sizeof(long));
        Number(value, sizeof(long));
    }

    public void Integers(params ReadOnlySpan<long> values)
    {
        Write(Opcode.MARK);
        foreach (long value in values)
        {
            Integer(value);
        }

        Write(Opcode.TUPLE);
    }

    /// <summary>Writes a tensor that views a storage of its own, as torch.save does in a ZIP archive.</summary>
    public void Tensor(string storage, int key, long elements, ReadOnlySpan<long> sizes, ReadOnlySpan<long> strides)
    {
        Global("torch._utils", "_rebuild_tensor_v2");
        Write(Opcode.MARK);
        Write(Opcode.MARK);
        Text("storage");
        Global("torch", storage);
        Text($"{key}");
        Text("cpu");
        Integer(elements);
        Write(Opcode.TUPLE);
        Write(Opcode.BINPERSID);
        Integer(0);
        Integers(sizes);
        Integers(strides);
        Write(Opcode.NEWFALSE);
        Global("collections", "OrderedDict");
        Write(Opcode.EMPTY_TUPLE);
        Write(Opcode.REDUCE);
        Write(Opcode.TUPLE);
        Write(Opcode.REDUCE);
    }

    /// <summary>Ends the stream.</summary>
    public byte[] Stop()
    {
        Write(Opcode.STOP);
        return _bytes.ToArray();
    }

    private void Number(long value, int bytes)
    {
        Span<byte> number = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(number, value);
        _bytes.AddRange(number[..bytes]);
    }
}
