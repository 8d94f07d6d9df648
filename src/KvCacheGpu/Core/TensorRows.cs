using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>Vectors of tensors and outputs in host memory.</summary>
internal static class TensorRows
{
    /// <summary>One vector, widened.</summary>
    /// <param name="tensor"><c>[tokens][heads][width]</c>, in host memory.</param>
    /// <param name="token">Token.</param>
    /// <param name="head">Head.</param>
    /// <param name="heads">Heads of a token.</param>
    /// <param name="room">[width] overwritten where the vector does not lie in floats.</param>
    /// <returns>The vector, where it lies or in <paramref name="room"/>.</returns>
    public static ReadOnlySpan<float> Row(this KvTensor tensor, int token, int head, int heads, Span<float> room)
    {
        int headStride = tensor.HeadStride == 0 ? room.Length : tensor.HeadStride;
        long tokenStride = tensor.TokenStride == 0 ? (long)heads * headStride : tensor.TokenStride;
        long first = ((token * tokenStride) + ((long)head * headStride)) * tensor.ElementBytes;
        return Widen(tensor.Host.Slice((int)first, room.Length * tensor.ElementBytes), tensor.Type, room);
    }

    /// <summary>One vector of an output, widened.</summary>
    /// <param name="output">Dense vectors, in host memory.</param>
    /// <param name="vector">Which.</param>
    /// <param name="room">[width] overwritten where the vector does not lie in floats.</param>
    /// <returns>The vector, where it lies or in <paramref name="room"/>.</returns>
    public static ReadOnlySpan<float> Row(this KvOutput output, int vector, Span<float> room)
    {
        int bytes = room.Length * output.ElementBytes;
        return Widen(output.Host.Slice(vector * bytes, bytes), output.Type, room);
    }

    /// <summary>The same tensor with its elements in host memory.</summary>
    /// <param name="tensor">A tensor on a device.</param>
    /// <param name="bytes">All that it spans.</param>
    public static KvTensor InHost(this KvTensor tensor, ReadOnlySpan<byte> bytes) => tensor.Type switch
    {
        TensorType.F32 => KvTensor.FromHost(MemoryMarshal.Cast<byte, float>(bytes), tensor.TokenStride, tensor.HeadStride),
        TensorType.F16 => KvTensor.FromHost(MemoryMarshal.Cast<byte, Half>(bytes), tensor.TokenStride, tensor.HeadStride),
        _ => KvTensor.FromHostBFloat16(MemoryMarshal.Cast<byte, ushort>(bytes), tensor.TokenStride, tensor.HeadStride),
    };

    private static ReadOnlySpan<float> Widen(ReadOnlySpan<byte> bytes, TensorType type, Span<float> room)
    {
        if (type == TensorType.F32)
        {
            return MemoryMarshal.Cast<byte, float>(bytes);
        }

        ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (int i = 0; i < room.Length; i++)
        {
            room[i] = type == TensorType.F16
                ? (float)BitConverter.UInt16BitsToHalf(bits[i])
                : BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
        }

        return room;
    }
}
