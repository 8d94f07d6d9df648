using System.Runtime.InteropServices;
using Half = System.Half;

namespace KvCacheGpu.Kernels;

/// <summary>Host tensors of any element type and strides -> dense binary32, in pinned memory on their way to the device.</summary>
internal static class HostPacking
{
    /// <summary>source[tokens][heads][width] at its strides -> target[tokens][heads][width].</summary>
    public static void Pack(KvTensor source, int tokens, int heads, int width, Span<float> target)
    {
        int headStride = source.HeadStride == 0 ? width : source.HeadStride;
        int tokenStride = source.TokenStride == 0 ? heads * headStride : source.TokenStride;
        bool isDense = headStride == width && tokenStride == heads * width;
        if (isDense)
        {
            Widen(source, 0, target[..(tokens * heads * width)]);
            return;
        }

        for (int token = 0; token < tokens; token++)
        {
            for (int head = 0; head < heads; head++)
            {
                Widen(source, (token * tokenStride) + (head * headStride), target.Slice(((token * heads) + head) * width, width));
            }
        }
    }

    private static void Widen(KvTensor source, int at, Span<float> target)
    {
        switch (source.Type)
        {
            case TensorType.F32:
                MemoryMarshal.Cast<byte, float>(source.Host).Slice(at, target.Length).CopyTo(target);
                break;
            case TensorType.F16:
                ReadOnlySpan<Half> halves = MemoryMarshal.Cast<byte, Half>(source.Host).Slice(at, target.Length);
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = (float)halves[i];
                }

                break;
            default:
                ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<byte, ushort>(source.Host).Slice(at, target.Length);
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromBFloat16(bits[i]));
                }

                break;
        }
    }
}
