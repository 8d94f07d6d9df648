using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The type and the strides of a tensor that a kernel reads. Only 32-bit integers, passed by value.</summary>
/// <param name="type">Element type: a <see cref="TensorType"/>.</param>
/// <param name="tokenStride">Elements from one token to the next.</param>
/// <param name="headStride">Elements from one head to the next.</param>
internal readonly struct TensorDims(int type, int tokenStride, int headStride)
{
    public readonly int Type = type;
    public readonly int TokenStride = tokenStride;
    public readonly int HeadStride = headStride;

    /// <summary>The first element of a vector.</summary>
    public long At(int token, int head) => ((long)token * TokenStride) + ((long)head * HeadStride);
}

/// <summary>
/// Elements of the three types in one view. It counts 16-bit words, because elements of 16 bits may begin at any even address; binary32 elements begin at multiples of 4.
/// </summary>
internal static class TypedElements
{
    /// <summary>Element <paramref name="at"/>, widened exactly.</summary>
    public static float Load(ArrayView<ushort> elements, long at, int type)
    {
        if (type == (int)TensorType.F32)
        {
            return elements.Cast<float>()[at];
        }

        uint bits = elements[at];
        return type == (int)TensorType.F16 ? OfHalf(bits) : Interop.IntAsFloat(Bits16.SingleBitsFromBFloat16(bits));
    }

    /// <summary>Writes element <paramref name="at"/>, rounded once, as <see cref="Bits16.Saturate"/> says.</summary>
    public static void Store(ArrayView<ushort> elements, long at, int type, float x)
    {
        if (type == (int)TensorType.F32)
        {
            elements.Cast<float>()[at] = x;
            return;
        }

        elements[at] = (ushort)Narrow(x, type);
    }

    /// <summary>The bits of an element of a 16-bit type, rounded once, as <see cref="Bits16.Saturate"/> says.</summary>
    public static uint Narrow(float x, int type)
    {
        uint bits = Bits16.Saturate(Interop.FloatAsInt(x), type == (int)TensorType.F16 ? Bits16.LargestHalf : Bits16.LargestBFloat16);
        return type == (int)TensorType.F16 ? Bits16.HalfFromSingleBits(bits) : Bits16.BFloat16FromSingleBits(bits);
    }

    // As Bits16 widens, in fewer registers: subnormals count units of 2^-24, which binary32 multiplies exactly.
    private static float OfHalf(uint bits)
    {
        uint magnitude = bits & 0x7FFF;
        uint wide = (magnitude << 13) + (magnitude >= 0x7C00 ? 0x70000000u : 0x38000000u);
        float x = magnitude < 0x400 ? (int)magnitude * (1f / (1 << 24)) : Interop.IntAsFloat(wide);
        return Interop.IntAsFloat(Interop.FloatAsInt(x) | ((bits & 0x8000) << 16));
    }
}
