using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Small kernels in front of append and attend: table patches, rotated queries.</summary>
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

    /// <summary>queries[tokens][heads][width] of any type and strides -> dense, rotated and scaled. One group per vector. Shared: x[width].</summary>
    public static void RotateQueries(
        ArrayView<ushort> queries,
        ArrayView<float> target,
        TensorDims tensor,
        int heads,
        int width,
        float scale,
        ArrayView<float> signs,
        float norm)
    {
        int token = Grid.IdxX / heads;
        long at = tensor.At(token, Grid.IdxX - (token * heads));
        ArrayView<float> x = SharedMemory.GetDynamic<float>().SubView(0, width);
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = TypedElements.Load(queries, at + i, tensor.Type) * (scale * norm);
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
