using System.Buffers.Binary;

namespace KvCacheGpu.Import.Tests;

/// <summary>A tensor as an old program wrote it. Each element tells its own place: see <see cref="Number"/>.</summary>
/// <param name="Axes">Its axes by letter, outermost first: b batch, l layers, t tokens, h heads, w width, s keys and then values.</param>
/// <param name="IsValue">True if its elements are those of values; false for keys.</param>
/// <param name="Type">The type of its elements.</param>
internal sealed record OldTensor(string Axes, bool IsValue = false, ElementType Type = ElementType.Float32)
{
    public const int Heads = 2;

    public const int KeyWidth = 5;

    public const int ValueWidth = 3;

    public int Batch { get; init; } = 1;

    public int Layers { get; init; } = 1;

    public int Tokens { get; init; } = 1;

    /// <summary>Its first layer.</summary>
    public int Layer { get; init; }

    /// <summary>Its first token.</summary>
    public int Token { get; init; }

    /// <summary>Its first element, if that differs from its number.</summary>
    public double? First { get; init; }

    /// <summary>Stacked tensors are as wide as their values are.</summary>
    public long[] Shape => [.. Axes.Select(axis => (long)(axis switch
    {
        'b' => Batch,
        'l' => Layers,
        't' => Tokens,
        'h' => Heads,
        's' => 2,
        _ => IsValue ? ValueWidth : KeyWidth,
    }))];

    public static float Number(int row, int layer, int token, int head, int column, bool isValue) =>
        (row * 10_000) + (layer * 1_000) + (token * 100) + (head * 10) + column + (isValue ? 0.5f : 0);

    /// <summary>The elements in C order.</summary>
    public double[] Elements()
    {
        long[] shape = Shape;
        double[] elements = new double[shape.Aggregate(1L, (product, size) => product * size)];
        Dictionary<char, int> at = [];
        for (int i = 0; i < elements.Length; i++)
        {
            long rest = i;
            for (int axis = shape.Length - 1; axis >= 0; axis--)
            {
                at[Axes[axis]] = (int)(rest % shape[axis]);
                rest /= shape[axis];
            }

            elements[i] = Number(Of('b'), Layer + Of('l'), Token + Of('t'), Of('h'), Of('w'), IsValue || Of('s') == 1);
        }

        elements[0] = First ?? elements[0];
        return elements;

        int Of(char axis) => at.GetValueOrDefault(axis);
    }
}

/// <summary>Writes old caches: texts, whole numbers, tuples (arrays), lists, dicts (arrays of keys and values) and tensors, as torch.save does.</summary>
internal sealed class OldCache
{
    private readonly PickleOutput _pickle = new();
    private readonly List<OldTensor> _tensors = [];

    public static CacheFile Open(object root)
    {
        OldCache cache = new();
        cache.Put(root);
        using MemoryStream stream = new();
        StoredZipWriter zip = new(stream);
        byte[] pickle = cache._pickle.Stop();
        zip.Add("cache/data.pkl", pickle.Length, write => write(pickle));
        foreach ((int key, OldTensor tensor) in cache._tensors.Index())
        {
            byte[] bytes = Bytes(tensor);
            zip.Add($"cache/data/{key}", bytes.Length, write => write(bytes));
        }

        zip.Add("cache/version", 2, write => write("3\n"u8));
        zip.Finish();
        return CacheFile.Read(stream.ToArray());
    }

    private static byte[] Bytes(OldTensor tensor)
    {
        double[] elements = tensor.Elements();
        int size = tensor.Type.Bytes();
        byte[] bytes = new byte[elements.Length * size];
        for (int i = 0; i < elements.Length; i++)
        {
            Span<byte> element = bytes.AsSpan(i * size, size);
            switch (tensor.Type)
            {
                case ElementType.Float16:
                    BinaryPrimitives.WriteHalfLittleEndian(element, (Half)elements[i]);
                    break;
                case ElementType.Float32:
                    BinaryPrimitives.WriteSingleLittleEndian(element, (float)elements[i]);
                    break;
                case ElementType.Float64:
                    BinaryPrimitives.WriteDoubleLittleEndian(element, elements[i]);
                    break;
                default:
                    element[0] = (byte)elements[i];
                    break;
            }
        }

        return bytes;
    }

    private void Put(object value)
    {
        switch (value)
        {
            case string text:
                _pickle.Text(text);
                break;
            case int number:
                _pickle.Integer(number);
                break;
            case OldTensor tensor:
                Put(tensor);
                break;
            case (object Key, object Value)[] dict:
                _pickle.Write(Opcode.EMPTY_DICT);
                Put(dict.SelectMany(item => new[] { item.Key, item.Value }), Opcode.SETITEMS);
                break;
            case List<object> list:
                _pickle.Write(Opcode.EMPTY_LIST);
                Put(list, Opcode.APPENDS);
                break;
            default:
                Put((object[])value, Opcode.TUPLE);
                break;
        }
    }

    private void Put(IEnumerable<object> items, Opcode end)
    {
        _pickle.Write(Opcode.MARK);
        foreach (object item in items)
        {
            Put(item);
        }

        _pickle.Write(end);
    }

    private void Put(OldTensor tensor)
    {
        long[] shape = tensor.Shape;
        long[] strides = new long[shape.Length];
        long count = 1;
        for (int axis = shape.Length - 1; axis >= 0; axis--)
        {
            strides[axis] = count;
            count *= shape[axis];
        }

        string storage = tensor.Type switch
        {
            ElementType.Float16 => "HalfStorage",
            ElementType.Float32 => "FloatStorage",
            ElementType.Float64 => "DoubleStorage",
            _ => "CharStorage",
        };
        _pickle.Tensor(storage, _tensors.Count, count, shape, strides);
        _tensors.Add(tensor);
    }
}
