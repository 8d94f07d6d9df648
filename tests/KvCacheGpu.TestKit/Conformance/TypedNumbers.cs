using System.Runtime.InteropServices;
using Half = System.Half;

namespace KvCacheGpu.TestKit;

/// <summary>Numbers in the three element types, rounded by the runtime and by <see cref="Round16"/>, without code of the kernels.</summary>
public static class TypedNumbers
{
    /// <summary>The numbers, each rounded once; finite ones beyond the type's largest are the largest.</summary>
    public static byte[] Bytes(ReadOnlySpan<float> numbers, TensorType type)
    {
        switch (type)
        {
            case TensorType.F32:
                return MemoryMarshal.AsBytes(numbers).ToArray();
            case TensorType.F16:
                var halves = new Half[numbers.Length];
                for (int i = 0; i < halves.Length; i++)
                {
                    halves[i] = float.IsFinite(numbers[i]) ? Round16.Saturated(numbers[i]) : (Half)numbers[i];
                }

                return MemoryMarshal.AsBytes<Half>(halves).ToArray();
            default:
                var bits = new ushort[numbers.Length];
                for (int i = 0; i < bits.Length; i++)
                {
                    bits[i] = Round16.BFloat16(float.IsFinite(numbers[i]) ? Math.Clamp(numbers[i], -LargestBFloat16, LargestBFloat16) : numbers[i]);
                }

                return MemoryMarshal.AsBytes<ushort>(bits).ToArray();
        }
    }

    /// <summary>The numbers that the bytes hold, exactly.</summary>
    public static float[] Numbers(ReadOnlySpan<byte> bytes, TensorType type)
    {
        if (type == TensorType.F32)
        {
            return MemoryMarshal.Cast<byte, float>(bytes).ToArray();
        }

        ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<byte, ushort>(bytes);
        var numbers = new float[bits.Length];
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] = type == TensorType.F16 ? (float)BitConverter.UInt16BitsToHalf(bits[i]) : BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
        }

        return numbers;
    }

    /// <summary>Writes one of an output's dense vectors, in its type.</summary>
    public static void Put(this KvOutput output, int vector, ReadOnlySpan<float> numbers)
    {
        byte[] bytes = Bytes(numbers, output.Type);
        bytes.CopyTo(output.Host[(vector * bytes.Length)..]);
    }

    /// <summary>A tensor in host memory.</summary>
    public static KvTensor HostTensor(ReadOnlySpan<byte> bytes, TensorType type, int tokenStride = 0, int headStride = 0) => type switch
    {
        TensorType.F32 => KvTensor.FromHost(MemoryMarshal.Cast<byte, float>(bytes), tokenStride, headStride),
        TensorType.F16 => KvTensor.FromHost(MemoryMarshal.Cast<byte, Half>(bytes), tokenStride, headStride),
        _ => KvTensor.FromHostBFloat16(MemoryMarshal.Cast<byte, ushort>(bytes), tokenStride, headStride),
    };

    /// <summary>An output in host memory.</summary>
    public static KvOutput HostOutput(Span<byte> bytes, TensorType type, Span<float> logSumExp = default) => type switch
    {
        TensorType.F32 => KvOutput.FromHost(MemoryMarshal.Cast<byte, float>(bytes), logSumExp),
        TensorType.F16 => KvOutput.FromHost(MemoryMarshal.Cast<byte, Half>(bytes), logSumExp),
        _ => KvOutput.FromHostBFloat16(MemoryMarshal.Cast<byte, ushort>(bytes), logSumExp),
    };

    private static float LargestBFloat16 => BitConverter.UInt32BitsToSingle(0x7F7F0000);
}
