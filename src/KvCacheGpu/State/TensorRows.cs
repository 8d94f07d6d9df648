using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>Vectors of a tensor in host memory.</summary>
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
        ReadOnlySpan<byte> bytes = tensor.Host.Slice(
            (int)(((token * tokenStride) + ((long)head * headStride)) * tensor.ElementBytes), room.Length * tensor.ElementBytes);
        if (tensor.Type == TensorType.F32)
        {
            return MemoryMarshal.Cast<byte, float>(bytes);
        }

        ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (int i = 0; i < room.Length; i++)
        {
            room[i] = tensor.Type == TensorType.F16
                ? (float)BitConverter.UInt16BitsToHalf(bits[i])
                : BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
        }

        return room;
    }
}
