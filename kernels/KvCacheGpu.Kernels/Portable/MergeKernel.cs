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

/// <summary>The query whose partial results a group combines.</summary>
internal readonly struct MergePlace
{
    /// <summary>True if the block has no such query: its sequence ends before.</summary>
    public readonly bool IsBeyond;

    /// <summary>Segments in which the query sees a page. Of others nothing was written.</summary>
    public readonly int Used;

    /// <summary>The query's place among the output's vectors.</summary>
    public readonly long Vector;

    private readonly int _first;
    private readonly int _owner;
    private readonly int _token;
    private readonly int _head;
    private readonly int _group;
    private readonly bool _isFirst;

    public MergePlace(ArrayView<int> arena, ArrayView<int> batch, MergeDims merge, KernelDims dims)
    {
        int item = Grid.IdxX / merge.Queries;
        int r = Grid.IdxX - (item * merge.Queries);
        int block = KernelDims.Blocks + ((merge.FirstBlock + (item / dims.KvHeads)) * 2);
        int query = batch[block + 1] + r;
        _head = item % dims.KvHeads;
        _owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        _token = query / dims.GroupSize;
        _group = query - (_token * dims.GroupSize);
        _isFirst = batch[block] == 0;
        _first = (item * merge.Segments * merge.Queries) + r;
        IsBeyond = _token >= batch[_owner + 2];
        int length = batch[_owner + 3];
        int entries = arena[dims.CountWord(batch[_owner], merge.Layer, _head)];
        Used = dims.SegmentsOf(entries - (((length - 1) / dims.PageTokens) - ((length - batch[_owner + 2] + _token) / dims.PageTokens)));
        Vector = ((long)(batch[_owner + 1] + _token) * dims.KvHeads * dims.GroupSize) + (_head * dims.GroupSize) + _group;
    }

    /// <summary>The place of a segment's partial result.</summary>
    public long At(int launch, int segment, MergeDims merge) => ((((long)launch * merge.LaunchStride) + segment) * merge.Queries) + _first;

    /// <summary>Writes a query's log-sum-exp; that of a sequence's last query goes to the tables too, for the scores.</summary>
    public void WriteLogSumExp(ArrayView<int> arena, ArrayView<int> batch, ArrayView<float> logSumExp, float lse, MergeDims merge, KernelDims dims)
    {
        logSumExp[Vector] = lse;
        if (batch[_owner + 3] - batch[_owner + 2] + _token == batch[_owner + 4])
        {
            if (_isFirst && _head == 0 && _group == 0)
            {
                // It is the same for all queries: one thread writes it, that of the first sequence's last query.
                batch[dims.Windows + merge.Layer] = merge.Window;
            }

            arena[dims.LogSumExp + (dims.CountWord(batch[_owner], merge.Layer, _head) * dims.GroupSize) + _group] = (int)Interop.FloatAsInt(lse);
        }
    }
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
        var place = new MergePlace(arena, batch, merge, dims);
        if (place.IsBeyond)
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

        float exponent = Exponent(partialStats, place, merge);
        float largest = float.NegativeInfinity;
        float sum = 0f;
        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < place.Used; s++)
            {
                float most = Largest(partialStats, place.At(launch, s, merge), exponent);
                largest = most > largest ? most : largest;
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < place.Used; s++)
            {
                long at = place.At(launch, s, merge);
                sum += Weight(partialStats, at, largest, exponent);
            }
        }

        for (int launch = 0; launch < merge.Launches; launch++)
        {
            for (int s = 0; s < place.Used; s++)
            {
                long at = place.At(launch, s, merge);
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

        for (int d = Group.IdxX; d < dims.ValueWidth; d += Group.DimX)
        {
            TypedElements.Store(output, (place.Vector * dims.ValueWidth) + d, merge.Type, plain[d] + turned[d]);
        }

        if (Group.IdxX == 0)
        {
            place.WriteLogSumExp(arena, batch, logSumExp, PortableMath.LogitOf(largest, exponent) + PortableMath.Log(sum), merge, dims);
        }
    }

    /// <summary>The exponent that is common to all launches: each divides the same query by a power of two of its own, which rotations make differ.</summary>
    public static float Exponent(ArrayView<float> partialStats, MergePlace place, MergeDims merge)
    {
        float exponent = 0f;
        for (int launch = 0; launch < merge.Launches; launch++)
        {
            float own = partialStats[(AttendKernel.PartialWords * place.At(launch, 0, merge)) + 2];
            exponent = own > exponent ? own : exponent;
        }

        return exponent;
    }

    /// <summary>A segment's largest raw logit, as if its query had been divided by 2^exponent.</summary>
    public static float Largest(ArrayView<float> partialStats, long at, float exponent)
    {
        int difference = (int)(partialStats[(AttendKernel.PartialWords * at) + 2] - exponent);
        return partialStats[AttendKernel.PartialWords * at] * PortableMath.PowerOf(difference < -126 ? -126 : difference);
    }

    /// <summary>A segment's sum of powers, from the largest logit of all.</summary>
    public static float Weight(ArrayView<float> partialStats, long at, float largest, float exponent)
    {
        float sum = partialStats[(AttendKernel.PartialWords * at) + 1];
        return sum > 0f ? sum * PortableMath.Exp(PortableMath.Scaled(Largest(partialStats, at, exponent) - largest, exponent)) : 0f;
    }
}
