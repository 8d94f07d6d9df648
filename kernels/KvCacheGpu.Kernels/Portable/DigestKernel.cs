using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>One launch of <see cref="DigestKernel.Score"/>, passed by value.</summary>
/// <param name="first">The first of its pages in the list.</param>
/// <param name="queries">How the queries lie as they came.</param>
/// <param name="scaledVectors">Vectors from the start of the rotated queries to those for T formats.</param>
/// <param name="scale">Factor of the queries as they came; rotated ones have it.</param>
/// <param name="deviation">Halves from a page's mean to its deviation.</param>
internal readonly struct DigestDims(int first, TensorDims queries, int scaledVectors, float scale, int deviation)
{
    public readonly int First = first;
    public readonly TensorDims Queries = queries;
    public readonly int ScaledVectors = scaledVectors;
    public readonly float Scale = scale;
    public readonly int Deviation = deviation;
}

/// <summary>Scores pages in host memory by the mean and the deviation of their keys, which the device reads over the bus: a thousandth part of the page.</summary>
internal static class DigestKernel
{
    /// <summary>
    /// Words that describe one page: its first unit in the host's block; halves from there to its mean, and to the scales of its keys (-1: it has none to multiply by); its sequence in the batch; KV head; which queries: 0 as they
    /// came, 1 rotated, 2 rotated and divided by key scales.
    /// </summary>
    public const int ListWords = 6;

    /// <summary>Queries that are multiplied at once.</summary>
    private const int AtOnce = 4;

    /// <summary>Shared floats of a group.</summary>
    public static int SharedFloats(int width, int threads) => (2 * width) + (2 * AtOnce * threads);

    /// <summary>Digests and queries -> one score a page. A group for each page; shared: mean[width], variance[width], sums[2 * <see cref="AtOnce"/>][DimX].</summary>
    public static void Score(
        ArrayView<int> batch,
        ArrayView<ushort> host,
        ArrayView<int> list,
        ArrayView<float> scores,
        ArrayView<ushort> queries,
        ArrayView<float> rotated,
        DigestDims call,
        KernelDims dims)
    {
        int page = call.First + Grid.IdxX;
        int at = page * ListWords;
        int width = dims.KeyWidth;
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> mean = shared.SubView(0, width);
        ArrayView<float> variance = shared.SubView(width, width);
        ArrayView<float> sums = shared.SubView(2 * width, 2 * AtOnce * Group.DimX);
        long start = (long)list[at] * (PageLayout.UnitBytes / sizeof(ushort));
        float unit = UnitOf(host, start, list[at + 2], sums, dims.PageTokens);
        long means = start + list[at + 1];
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            float deviation = TypedElements.Load(host, means + call.Deviation + i, (int)TensorType.F16) * unit;
            mean[i] = TypedElements.Load(host, means + i, (int)TensorType.F16) * unit;
            variance[i] = deviation * deviation;
        }

        Group.Barrier();
        int owner = dims.Sequences + (list[at + 3] * KernelDims.SequenceWords);
        int all = batch[owner + 2] * dims.GroupSize;
        int count = all < DigestScorer.MostQueries ? all : DigestScorer.MostQueries;
        float best = float.NegativeInfinity;
        for (int first = 0; first < count; first += AtOnce)
        {
            for (int r = 0; r < AtOnce; r++)
            {
                int looked = first + r < count ? first + r : count - 1;
                int query = DigestScorer.QueryAt(looked, count, all);
                int token = batch[owner + 1] + (query / dims.GroupSize);
                int head = (list[at + 4] * dims.GroupSize) + (query % dims.GroupSize);
                long from = list[at + 5] == 0
                    ? call.Queries.At(token, head)
                    : (((long)token * dims.KvHeads * dims.GroupSize) + head + (list[at + 5] == 2 ? call.ScaledVectors : 0)) * width;
                float agreement = 0f;
                float spread = 0f;
                for (int i = Group.IdxX; i < width; i += Group.DimX)
                {
                    float q = list[at + 5] == 0 ? TypedElements.Load(queries, from + i, call.Queries.Type) * call.Scale : rotated[from + i];
                    agreement += q * mean[i];
                    spread += q * q * variance[i];
                }

                // Of each query the parts of q . mean, then those of the sum of q^2 variance.
                sums[(2 * r * Group.DimX) + Group.IdxX] = agreement;
                sums[(((2 * r) + 1) * Group.DimX) + Group.IdxX] = spread;
            }

            SharedVector.Sum(sums, 2 * AtOnce);
            for (int r = 0; r < AtOnce; r++)
            {
                float score = sums[2 * r * Group.DimX] + (2f * MathF.Sqrt(sums[((2 * r) + 1) * Group.DimX]));
                best = score > best ? score : best;
            }

            Group.Barrier();
        }

        if (Group.IdxX == 0)
        {
            scores[page] = best;
        }
    }

    // Keys of centered formats, and so their mean and deviation, are in units of each token's scale.
    private static float UnitOf(ArrayView<ushort> host, long start, int scales, ArrayView<float> sums, int pageTokens)
    {
        float own = 0f;
        for (int t = Group.IdxX; t < pageTokens && scales >= 0; t += Group.DimX)
        {
            own += TypedElements.Load(host, start + scales + t, (int)TensorType.F16);
        }

        sums[Group.IdxX] = own;
        SharedVector.Sum(sums, 1);
        float unit = scales >= 0 ? sums[0] / pageTokens : 1f;
        Group.Barrier();
        return unit;
    }
}
