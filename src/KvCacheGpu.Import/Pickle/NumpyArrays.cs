using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>numpy's arrays, dtypes and scalars.</summary>
internal static class NumpyArrays
{
    /// <summary>The dtype of a code. Only plain numbers have one, so that no array can hold objects.</summary>
    public static DtypeValue Dtype(string code, long offset) => new(code switch
    {
        "f2" => ElementType.Float16,
        "f4" => ElementType.Float32,
        "f8" => ElementType.Float64,
        "i1" => ElementType.Int8,
        "i2" => ElementType.Int16,
        "i4" => ElementType.Int32,
        "i8" => ElementType.Int64,
        "u1" => ElementType.UInt8,
        "u2" => ElementType.UInt16,
        "u4" => ElementType.UInt32,
        "u8" => ElementType.UInt64,
        "b1" => ElementType.Bool,
        _ => throw ImportException.Unsupported("numpy.dtype", offset, "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1", code),
    });

    /// <summary>An array over its bytes, in C or Fortran order.</summary>
    public static ImportTensor Create(BytesValue bytes, DtypeValue dtype, TupleValue shape, bool isFortran, ReadBudget budget, long offset)
    {
        long[] sizes = TensorBounds.Dimensions("array shape", shape, offset);
        Int128 count = 1;
        foreach (long size in sizes)
        {
            count = Int128.Min(count * size, long.MaxValue);
        }

        if (count * dtype.Type.Bytes() != bytes.Bytes.Length)
        {
            throw ImportException.Corrupt("array", offset, $"{count} elements of {dtype.Type.Name()}", $"{bytes.Bytes.Length} bytes");
        }

        long[] strides = new long[sizes.Length];
        long stride = 1;
        for (int i = 0; i < sizes.Length; i++)
        {
            int axis = isFortran ? i : sizes.Length - 1 - i;
            strides[axis] = stride;

            // An array without elements does not use its strides, but they must not overflow.
            stride = count == 0 ? 1 : stride * sizes[axis];
        }

        TensorBounds.Check(dtype.Type, 0, sizes, strides, (long)count, budget, offset);
        return new ImportTensor(new Storage(dtype.Type, (long)count).Bind(bytes.Bytes, dtype.IsBigEndian), 0, sizes, strides);
    }

    /// <summary>The plain number of a scalar.</summary>
    public static PickleValue Scalar(DtypeValue dtype, BytesValue bytes, long offset)
    {
        int size = dtype.Type.Bytes();
        if (bytes.Bytes.Length != size)
        {
            throw ImportException.Corrupt("numpy scalar", offset, $"{size} bytes of {dtype.Type.Name()}", $"{bytes.Bytes.Length}");
        }

        Span<byte> value = stackalloc byte[sizeof(long)];
        value.Clear();
        bytes.Bytes.Read(0, value[..size]);
        if (dtype.IsBigEndian)
        {
            value[..size].Reverse();
        }

        long bits = BinaryPrimitives.ReadInt64LittleEndian(value);
        return dtype.Type switch
        {
            ElementType.Bool => new BoolValue(bits != 0),
            ElementType.Float16 => new FloatValue((double)BitConverter.Int16BitsToHalf((short)bits)),
            ElementType.Float32 => new FloatValue(BitConverter.Int32BitsToSingle((int)bits)),
            ElementType.Float64 => new FloatValue(BitConverter.Int64BitsToDouble(bits)),
            ElementType.Int8 => new IntegerValue((sbyte)bits),
            ElementType.Int16 => new IntegerValue((short)bits),
            ElementType.Int32 => new IntegerValue((int)bits),
            ElementType.Int64 => new IntegerValue(bits),
            _ => new IntegerValue((ulong)bits),
        };
    }
}
