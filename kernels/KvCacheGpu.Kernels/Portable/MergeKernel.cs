using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How a wave's partial results lie. Only 32-bit integers, passed by value.</summary>
/// <param name="rows">Rows of a block.</param>
/// <param name="firstBlock">First row block of the wave.</param>
/// <param name="segments">Segments of each (block, head).</param>
/// <param name="launchStride">(block, head, segment)s from one launch's results to the next's.</param>
/// <param name="launches">Launches whose results are combined.</param>
/// <param name="rotated">The launches whose values lie in the rotated basis, bit n for launch n.</param>
/// <param name="window">Positions that a row sees at most, for the scores.</param>
internal readonly struct MergeDims(int rows, int firstBlock, int segments, int launchStride, int launches, int rotated, int window)
{
    public readonly int Rows = rows;
    public readonly int FirstBlock = firstBlock;
    public readonly int Segments = segments;
    public readonly int LaunchStride = launchStride;
    public readonly int Launches = launches;
    public readonly int Rotated = rotated;
    public readonly int Window = window;
}

/// <summary>Combines the partial results of a row's segments and page classes. One group per (block, head, row).</summary>
internal static class MergeKernel
{
    /// <summary>
    /// output[tokens][query heads][wV] and logSumExp[tokens][query heads]. What lies in the rotated basis is summed apart and
    /// un-rotated once. Shared: rotated[wV], plain[wV].
    /// </summary>
    /// <remarks>
    /// partials[launch][item][segment][R][wV], means of the values, where a launch is one pair of formats. The order of the sum is fixed: launches, then segments.
    /// </remarks>
    public static void Merge(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<float> partials,
        ArrayView<float> partialStats,
        ArrayView<float> output,
        ArrayView<float> logSumExp,
        ArrayView<float> signs,
        float norm,
        int layer,
        MergeDims merge,
        KernelDims dims)
    {
        int rows = merge.Rows;
        int segments = merge.Segments;
        int item = Grid.IdxX / rows;
        int r = Grid.IdxX - (item * rows);
        int block = KernelDims.Blocks + ((merge.FirstBlock + (item / dims.KvHeads)) * 2);
        int head = item % dims.KvHeads;
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        int row = batch[block + 1] + r;
        int token = row / dims.GroupSize;
        if (token >= batch[owner + 2])
        {
            return;
        }

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
            long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments)) * rows) + r;
            exponent = partialStats[(AttendKernel.PartialWords * at) + 2] > exponent ? partialStats[(AttendKernel.PartialWords * at) + 2] : exponent;
        }

        float largest = float.NegativeInfinity;
        float sum = 0f;
        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < segments; s++)
            {
                float most = Largest(partialStats, ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * rows) + r, exponent);
                largest = most > largest ? most : largest;
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < segments; s++)
            {
                long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * rows) + r;
                sum += Weight(partialStats, at, largest, exponent);
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < segments; s++)
            {
                long at = ((((long)launch * merge.LaunchStride) + ((long)item * segments) + s) * rows) + r;
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
            SharedVector.Undo(turned, dims.ValueWidth, signs, norm);
        }

        int group = row - (token * dims.GroupSize);
        long vector = ((long)(batch[owner + 1] + token) * dims.KvHeads * dims.GroupSize) + (head * dims.GroupSize) + group;
        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            output[(vector * dims.ValueWidth) + d] = plain[d] + turned[d];
        }

        if (Group.IdxX == 0)
        {
            float lse = PortableMath.LogitOf(largest, exponent) + PortableMath.Log(sum);
            logSumExp[vector] = lse;
            if (batch[owner + 3] - batch[owner + 2] + token == batch[owner + 4])
            {
                if (batch[block] == 0 && head == 0 && group == 0)
                {
                    // The same for all: the first sequence's last row tells it, alone.
                    batch[dims.Windows + layer] = merge.Window;
                }

                arena[dims.LogSumExp + (dims.Row(batch[owner], layer, head) * dims.GroupSize) + group] = (int)Interop.FloatAsInt(lse);
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
