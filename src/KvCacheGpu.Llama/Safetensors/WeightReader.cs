using System.Runtime.InteropServices;

namespace KvCacheGpu.Llama;

/// <summary>Reads small tensors whole, and refuses weights that are not finite.</summary>
internal static unsafe class WeightReader
{
    /// <summary>Reads a vector as binary32.</summary>
    public static float[] Vector(WeightFiles files, string name, int length)
    {
        (SafetensorsFile file, TensorEntry entry) = files.Require(name, length);
        return Values(file, entry);
    }

    /// <summary>Reads all elements of a tensor of weights as binary32.</summary>
    public static float[] Values(SafetensorsFile file, TensorEntry entry)
    {
        byte[] bytes = new byte[entry.Bytes];
        file.Read(entry, 0, bytes);
        ThrowIfNotFinite(file.Name, entry, bytes);
        float[] values = new float[entry.Shape.Aggregate(1L, (a, b) => a * b)];
        fixed (byte* source = bytes)
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = entry.WeightType switch
                {
                    WeightType.F16 => F16Bits.Load(source + (2 * i)),
                    WeightType.BF16 => BF16Bits.Load(source + (2 * i)),
                    _ => F32Bits.Load(source + (4 * i)),
                };
            }
        }

        return values;
    }

    /// <summary>Refuses a NaN or an infinity, whose exponent has all bits set.</summary>
    public static void ThrowIfNotFinite(string file, TensorEntry entry, ReadOnlySpan<byte> bytes)
    {
        bool finite = entry.WeightType switch
        {
            WeightType.F32 => AllBelow(MemoryMarshal.Cast<byte, uint>(bytes), 0x7f800000),
            WeightType.F16 => AllBelow(MemoryMarshal.Cast<byte, ushort>(bytes), 0x7c00),
            _ => AllBelow(MemoryMarshal.Cast<byte, ushort>(bytes), 0x7f80),
        };
        if (!finite)
        {
            LlamaFormatException.ThrowCorrupt(file, entry.Name, "finite weights", "a NaN or an infinity");
        }
    }

    private static bool AllBelow(ReadOnlySpan<uint> bits, uint exponent)
    {
        bool all = true;
        foreach (uint value in bits)
        {
            all &= (value & 0x7fffffff) < exponent;
        }

        return all;
    }

    private static bool AllBelow(ReadOnlySpan<ushort> bits, ushort exponent)
    {
        bool all = true;
        foreach (ushort value in bits)
        {
            all &= (value & 0x7fff) < exponent;
        }

        return all;
    }
}
