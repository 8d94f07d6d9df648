using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Small kernels in front of append and attend: table patches, wide inputs, rotated queries.</summary>
internal static class InputKernels
{
    /// <summary>patches[n] units, then patches[n] words from there, then patches[n] values -> tables. No word occurs twice.</summary>
    public static void Scatter(ArrayView<int> arena, ArrayView<int> patches, int count)
    {
        int i = (Grid.IdxX * Group.DimX) + Group.IdxX;
        if (i < count)
        {
            AppendKernel.Page(arena, patches[i])[patches[count + i]] = patches[(2 * count) + i];
        }
    }

    /// <summary>16-bit source[tokens][heads][width] at any strides -> dense binary32.</summary>
    public static void Widen(
        ArrayView<ushort> source, ArrayView<float> target, int isHalf, int tokenStride, int headStride, int heads, int width, int count)
    {
        int i = (Grid.IdxX * Group.DimX) + Group.IdxX;
        if (i < count)
        {
            int vector = i / width;
            int token = vector / heads;
            uint bits = source[((long)token * tokenStride) + ((long)(vector - (token * heads)) * headStride) + i - (vector * width)];
            target[i] = Interop.IntAsFloat(isHalf != 0 ? Bits16.SingleBitsFromHalf(bits) : Bits16.SingleBitsFromBFloat16(bits));
        }
    }

    /// <summary>queries[tokens][heads][width] at any strides -> dense, rotated and scaled. One group per vector. Shared: x[width].</summary>
    public static void RotateQueries(
        ArrayView<float> queries,
        ArrayView<float> target,
        int tokenStride,
        int headStride,
        int heads,
        int width,
        float scale,
        ArrayView<float> signs,
        float norm)
    {
        int token = Grid.IdxX / heads;
        long at = ((long)token * tokenStride) + ((long)(Grid.IdxX - (token * heads)) * headStride);
        ArrayView<float> x = SharedMemory.GetDynamic<float>().SubView(0, width);
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = queries[at + i] * (scale * norm);
        }

        // The norm first: butterflies of the largest queries would leave binary32.
        Group.Barrier();
        SharedVector.Rotate(x, width, signs, 1f);
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            target[((long)Grid.IdxX * width) + i] = x[i];
        }
    }
}
