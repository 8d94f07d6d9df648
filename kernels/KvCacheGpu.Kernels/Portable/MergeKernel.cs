using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How a wave's partial results lie. Only 32-bit numbers, passed by value.</summary>
/// <param name="layer">The layer.</param>
/// <param name="queries">Queries of a block.</param>
/// <param name="firstBlock">First block of the wave.</param>
/// <param name="segments">Segments of each (block, head) that there is room for.</param>
/// <param name="launchStride">(block, head, segment)s from one launch's results to the next's.</param>
/// <param name="launches">Launches whose results are combined.</param>
/// <param name="rotated">The launches whose values lie in the rotated basis, bit n for launch n.</param>
/// <param name="window">Positions that a query sees at most, for the scores.</param>
/// <param name="type">Element type of the output: a <see cref="TensorType"/>.</param>
/// <param name="norm"><see cref="Rotation.Norm"/> of the values' width.</param>
internal readonly struct MergeDims(
    int layer, int queries, int firstBlock, int segments, int launchStride, int launches, int rotated, int window, int type, float norm)
{
    public readonly int Layer = layer;
    public readonly int Queries = queries;
    public readonly int FirstBlock = firstBlock;
    public readonly int Segments = segments;
    public readonly int LaunchStride = launchStride;
    public readonly int Launches = launches;
    public readonly int Rotated = rotated;
    public readonly int Window = window;
    public readonly int Type = type;
    public readonly float Norm = norm;
}

/// <summary>Combines the partial results of a query's segments and page classes. One group per (block, head, query of the block).</summary>
internal static class MergeKernel
{
    /// <summary>
    /// output[tokens][query heads][wV] and logSumExp[tokens][query heads]. Values in the rotated basis are summed apart and
    /// rotated back once. Shared: rotated[wV], plain[wV].
    /// </summary>
    /// <remarks>
    /// partials[launch][item][segment][R][wV], means of the values, where a launch is one pair of formats. The order of the sum is fixed: launches, then segments.
    /// Of segments in which the query sees no page nothing was written, and nothing is read.
    /// </remarks>
    public static void Merge(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<float> partials,
        ArrayView<float> partialStats,
        ArrayView<ushort> output,
        ArrayView<float> logSumExp,
        ArrayView<float> signs,
        MergeDims merge,
        KernelDims dims)
    {
        int queries = merge.Queries;
        int segments = merge.Segments;
        int item = Grid.IdxX / queries;
        int r = Grid.IdxX - (item * queries);
        int block = KernelDims.Blocks + ((merge.FirstBlock + (item / dims.KvHeads)) * 2);
        int head = item % dims.KvHeads;
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        int query = batch[block + 1] + r;
        int token = query / dims.GroupSize;
        if (token >= batch[owner + 2])
        {
            return;
        }

        int length = batch[owner + 3];
        int entries = arena[dims.CountWord(batch[owner], merge.Layer, head)];
        int used = dims.SegmentsOf(entries - (((length - 1) / dims.PageTokens) - ((length - batch[owner + 2] + token) / dims.PageTokens)));
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> turned = shared.SubView(0, dims.ValueWidth);
        ArrayView<float> plain = shared.SubView(dims.ValueWidth, dims.ValueWidth);
        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            turned[d] = 0f;
            plain[d] = 0f;
        }

        // Launches divide the same query by powers of two of their own, which rotations make differ: the largest is common to all.
        float exponent = 0f;
        for (int launch = 0; launch < merge.Launches; launch++)
        {
            long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments)) * queries) + r;
            exponent = partialStats[(AttendKernel.PartialWords * at) + 2] > exponent ? partialStats[(AttendKernel.PartialWords * at) + 2] : exponent;
        }

        float largest = float.NegativeInfinity;
        float sum = 0f;
        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < used; s++)
            {
                float most = Largest(partialStats, ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * queries) + r, exponent);
                largest = most > largest ? most : largest;
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < used; s++)
            {
                long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * queries) + r;
                sum += Weight(partialStats, at, largest, exponent);
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < used; s++)
            {
                long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * queries) + r;
                float weight = Weight(partialStats, at, largest, exponent) / sum;
                if (weight > 0f)
                {
                    int first = ((merge.Rotated >> launch) & 1) != 0 ? 0 : dims.ValueWidth;
                    for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
                    {
                        shared[first + d] += weight * partials[(at * dims.ValueWidth) + d];
                    }
                }
            }
        }

        Group.Barrier();
        if (merge.Rotated != 0)
        {
            SharedVector.Undo(turned, dims.ValueWidth, signs, 0, merge.Norm);
        }

        int group = query - (token * dims.GroupSize);
        long vector = ((long)(batch[owner + 1] + token) * dims.KvHeads * dims.GroupSize) + (head * dims.GroupSize) + group;
        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            TypedElements.Store(output, (vector * dims.ValueWidth) + d, merge.Type, plain[d] + turned[d]);
        }

        if (Group.IdxX == 0)
        {
            float lse = PortableMath.LogitOf(largest, exponent) + PortableMath.Log(sum);
            logSumExp[vector] = lse;
            if (batch[owner + 3] - batch[owner + 2] + token == batch[owner + 4])
            {
                if (batch[block] == 0 && head == 0 && group == 0)
                {
                    // It is the same for all queries: one thread writes it, that of the first sequence's last query.
                    batch[dims.Windows + merge.Layer] = merge.Window;
                }

                arena[dims.LogSumExp + (dims.CountWord(batch[owner], merge.Layer, head) * dims.GroupSize) + group] = (int)Interop.FloatAsInt(lse);
            }
        }
    }

    // A segment's largest raw logit, as if its query had been divided by 2^exponent.
    private static float Largest(ArrayView<float> partialStats, long at, float exponent)
    {
        int difference = (int)(partialStats[(AttendKernel.PartialWords * at) + 2] - exponent);
        return partialStats[AttendKernel.PartialWords * at] * PortableMath.PowerOf(difference < -126 ? -126 : difference);
    }

    // A segment's sum of powers, from the largest logit of all.
    private static float Weight(ArrayView<float> partialStats, long at, float largest, float exponent)
    {
        float sum = partialStats[(AttendKernel.PartialWords * at) + 1];
        return sum > 0f ? sum * PortableMath.Exp(PortableMath.Scaled(Largest(partialStats, at, exponent) - largest, exponent)) : 0f;
    }
}
