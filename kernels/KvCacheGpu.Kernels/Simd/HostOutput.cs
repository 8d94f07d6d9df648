using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>A <see cref="KvOutput"/> in host memory, pinned for the time of a launch; vectors are written one by one, each rounded from floats to its place.</summary>
internal readonly unsafe struct HostOutput(byte* elements, TensorType type)
{
    /// <summary>False if nothing is to be written.</summary>
    public bool IsThere => elements != null;

    /// <summary>Writes a vector; what 16 bits cannot hold is saturated as <see cref="Bits16.Saturate"/> says.</summary>
    /// <param name="vector">Which, of dense vectors of the width.</param>
    /// <param name="source">The vector, readable to a multiple of the lanes.</param>
    /// <param name="width">Elements.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Write<S, F, I>(long vector, float* source, int width)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        long first = vector * width;
        if (type == TensorType.F32)
        {
            new Span<float>(source, width).CopyTo(new Span<float>((float*)elements + first, width));
            return;
        }

        var target = (ushort*)elements + first;
        bool isHalf = type == TensorType.F16;
        uint largest = isHalf ? Bits16.LargestHalf : Bits16.LargestBFloat16;
        if (width % S.Lanes == 0 && PackVector<S, F, I>.Pack(isHalf ? PageFormat.F16 : PageFormat.BF16, source, width, (int*)target) <= largest)
        {
            return;
        }

        for (int i = 0; i < width; i++)
        {
            uint bits = Bits16.Saturate(BitConverter.SingleToUInt32Bits(source[i]), largest);
            target[i] = (ushort)(isHalf ? Bits16.HalfFromSingleBits(bits) : Bits16.BFloat16FromSingleBits(bits));
        }
    }
}
