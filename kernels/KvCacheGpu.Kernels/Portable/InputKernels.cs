using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>One launch of <see cref="InputKernels.RotateQueries"/>, passed by value.</summary>
/// <param name="queries">How the queries lie.</param>
/// <param name="layer">Their layer.</param>
/// <param name="vectors">How many there are.</param>
/// <param name="first">Vectors of the first group: 0, or as many as there are where none are wanted for I8.</param>
/// <param name="scaledVectors">Vectors from the start of the target to those for T formats.</param>
/// <param name="factor">Factor of the queries, and the rotation's norm.</param>
internal readonly struct RotateDims(TensorDims queries, int layer, int vectors, int first, int scaledVectors, float factor)
{
    public readonly TensorDims Queries = queries;
    public readonly int Layer = layer;
    public readonly int Vectors = vectors;
    public readonly int First = first;
    public readonly int ScaledVectors = scaledVectors;
    public readonly float Factor = factor;
}

/// <summary>Small kernels in front of append and attend: table patches, rotated queries, their squares.</summary>
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

    /// <summary>
    /// queries[tokens][heads][width] of any type and strides -> dense, rotated and scaled: first for I8, then for T formats, divided by the key scales of their sequence's
    /// table. One group per vector of each that is wanted. Shared: x[width].
    /// </summary>
    public static void RotateQueries(
        ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> target, ArrayView<float> signs, RotateDims call, KernelDims dims)
    {
        int vector = Grid.IdxX % call.Vectors;
        int token = vector / (dims.KvHeads * dims.GroupSize);
        int head = vector - (token * dims.KvHeads * dims.GroupSize);
        long to = vector;
        int ofSigns = 0;
        if (call.First + Grid.IdxX >= call.Vectors)
        {
            // A token between the sequences has no owner, and nobody reads its queries.
            int owner = batch[dims.Owners + token];
            int keyRow = owner < 0 ? 0 : batch[dims.Sequences + (owner * KernelDims.SequenceWords) + 5];
            ofSigns = DeviceSigns.VectorOf(keyRow + (call.Layer * dims.KvHeads) + (head / dims.GroupSize)) * dims.KeyWidth;
            to += call.ScaledVectors;
        }

        long at = call.Queries.At(token, head);
        ArrayView<float> x = SharedMemory.GetDynamic<float>().SubView(0, dims.KeyWidth);
        for (int i = Group.IdxX; i < dims.KeyWidth; i += Group.DimX)
        {
            x[i] = TypedElements.Load(queries, at + i, call.Queries.Type) * call.Factor;
        }

        // The norm first: butterflies of the largest queries would leave binary32.
        Group.Barrier();
        SharedVector.Rotate(x, dims.KeyWidth, signs, ofSigns, 1f);
        for (int i = Group.IdxX; i < dims.KeyWidth; i += Group.DimX)
        {
            target[(to * dims.KeyWidth) + i] = x[i];
        }
    }

    /// <summary>Adds the squares of a layer's queries to sums[layers][KV heads][width]. Groups of a KV head share its elements; a sum is one thread's, in the order of the tokens.</summary>
    public static void SumQueries(
        ArrayView<int> batch, ArrayView<ushort> queries, ArrayView<float> sums, TensorDims tensor, int layer, int tokens, KernelDims dims)
    {
        int head = Grid.IdxX % dims.KvHeads;
        int i = (Grid.IdxX / dims.KvHeads * Group.DimX) + Group.IdxX;
        if (i < dims.KeyWidth)
        {
            float sum = 0f;
            for (int token = 0; token < tokens; token++)
            {
                for (int member = 0; member < dims.GroupSize && batch[dims.Owners + token] >= 0; member++)
                {
                    float x = TypedElements.Load(queries, tensor.At(token, (head * dims.GroupSize) + member) + i, tensor.Type);
                    sum += x * x;
                }
            }

            int at = (((layer * dims.KvHeads) + head) * dims.KeyWidth) + i;
            sums[at] = sums[at] + sum;
        }
    }
}
