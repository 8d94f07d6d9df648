using System.Buffers.Binary;
using System.Text;

namespace KvCacheGpu.Import.Tests;

/// <summary>An array of numpy.</summary>
/// <param name="Type">The type of its elements, as numpy writes it: f2, f4, f8, i1.</param>
/// <param name="Shape">Its axes, outermost first.</param>
/// <param name="Element">An element by its index in C order.</param>
internal sealed record OldArray(string Type, long[] Shape, Func<int, double> Element)
{
    public byte[] Bytes()
    {
        int size = Type[1] - '0';
        byte[] bytes = new byte[Shape.Aggregate(1L, (product, axis) => product * axis) * size];
        for (int i = 0; i < bytes.Length / size; i++)
        {
            Span<byte> element = bytes.AsSpan(i * size, size);
            switch (Type)
            {
                case "f2":
                    BinaryPrimitives.WriteHalfLittleEndian(element, (Half)Element(i));
                    break;
                case "f4":
                    BinaryPrimitives.WriteSingleLittleEndian(element, (float)Element(i));
                    break;
                case "f8":
                    BinaryPrimitives.WriteDoubleLittleEndian(element, Element(i));
                    break;
                default:
                    element[0] = (byte)(sbyte)Element(i);
                    break;
            }
        }

        return bytes;
    }
}

/// <summary>Writes pickles as Python does: null, whole numbers, texts, tuples (arrays), lists, dicts (arrays of keys and values) and numpy's arrays.</summary>
internal static class OldPickle
{
    public static byte[] Of(object? root)
    {
        List<byte> bytes = [0x80, 4];
        Put(bytes, root);
        return [.. bytes, (byte)'.'];
    }

    private static void Put(List<byte> bytes, object? value)
    {
        switch (value)
        {
            case null:
                bytes.Add((byte)'N');
                break;
            case int number:
                bytes.AddRange([0x8a, 4, .. BitConverter.GetBytes(number)]);
                break;
            case string text:
                bytes.AddRange([(byte)'X', .. BitConverter.GetBytes(Encoding.UTF8.GetByteCount(text)), .. Encoding.UTF8.GetBytes(text)]);
                break;
            case OldArray array:
                Put(bytes, array);
                break;
            case (object Key, object? Value)[] dict:
                bytes.Add((byte)'}');
                Put(bytes, dict.SelectMany(item => new[] { item.Key, item.Value }), 'u');
                break;
            case List<object?> list:
                bytes.Add((byte)']');
                Put(bytes, list, 'e');
                break;
            default:
                Put(bytes, (object?[])value, 't');
                break;
        }
    }

    private static void Put(List<byte> bytes, IEnumerable<object?> items, char end)
    {
        bytes.Add((byte)'(');
        foreach (object? item in items)
        {
            Put(bytes, item);
        }

        bytes.Add((byte)end);
    }

    private static void Put(List<byte> bytes, OldArray array)
    {
        byte[] elements = array.Bytes();
        bytes.AddRange("cnumpy.core.numeric\n_frombuffer\n(B"u8);
        bytes.AddRange(BitConverter.GetBytes(elements.Length));
        bytes.AddRange(elements);
        bytes.AddRange("cnumpy\ndtype\n("u8);
        Put(bytes, array.Type);
        bytes.AddRange([0x89, 0x88, (byte)'t', (byte)'R', (byte)'(', (byte)'K', 3]);
        Put(bytes, "<");
        bytes.AddRange([.. "NNNJ"u8, 255, 255, 255, 255, (byte)'J', 255, 255, 255, 255, (byte)'K', 0, (byte)'t', (byte)'b']);
        Put(bytes, array.Shape.Select(axis => (object)(int)axis), 't');
        Put(bytes, "C");
        bytes.AddRange("tR"u8);
    }
}
