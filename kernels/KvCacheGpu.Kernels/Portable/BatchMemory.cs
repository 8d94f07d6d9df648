using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The memory of one batch, allocated once: on the device, and pinned on the host where tensors pass through.</summary>
/// <remarks>
/// <code>
/// integers       int32[BatchWords]                    see KernelDims
/// input          f32[tokens][...]                     keys and values, later queries; the stream's order keeps them apart
/// rotated        f32[forms][tokens][query heads][wK]  queries in the rotated basis, where a class needs them: for I8, and for T formats
/// output         f32[tokens][query heads][wV], then log-sum-exp f32[tokens][query heads]
/// partials       f32[launches][slots][R][wV], then (max, sum, exponent) f32[launches][slots][R][3]
/// </code>
/// A slot is a (block, head, segment), and R the queries of a block. The memory of all slots is bounded at any length: larger batches are worked off in waves.
/// </remarks>
internal sealed class BatchMemory : IDisposable
{
    private readonly DeviceLink _link;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _integers;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _floats;

    public BatchMemory(DeviceLink link, KernelShape shape, KernelDims dims, BatchLaunchers launchers, int maxSequences, int mostMoves, long partialFloats)
    {
        _link = link;
        KvGeometry g = shape.Geometry;
        checked
        {
            KeyFloats = dims.MaxTokens * g.KvHeads * g.KeyWidth;
            int values = dims.MaxTokens * g.KvHeads * g.ValueWidth;
            int queries = dims.MaxTokens * g.QueryHeads * g.KeyWidth;
            OutputFloats = dims.MaxTokens * g.QueryHeads * g.ValueWidth;
            int sums = dims.MaxTokens * g.QueryHeads;
            (int launches, int block) = (launchers.MaxForms, launchers.BlockQueries);
            int blockSlots = g.KvHeads * dims.MaxSegments;
            long slots = (long)KernelDims.MaxBlocks(maxSequences, dims.MaxTokens, g.GroupSize, block) * blockSlots;
            slots = Math.Clamp(partialFloats / launches / (block * (g.ValueWidth + AttendKernel.PartialWords)), blockSlots, slots);
            PartialQueries = (int)(slots * block);

            long inputAt = 0;
            long rotatedAt = inputAt + Math.Max(KeyFloats + values, queries);

            // Outputs and partial results begin at multiples of 16 bytes, as kernels with 128-bit accesses need them.
            long outputAt = (rotatedAt + ((long)launchers.QueryForms * queries) + 3) & ~3L;
            long sumsAt = outputAt + OutputFloats;
            long partialsAt = (sumsAt + sums + 3) & ~3L;
            long statsAt = partialsAt + ((long)launches * PartialQueries * g.ValueWidth);
            long end = statsAt + ((long)launches * PartialQueries * AttendKernel.PartialWords);
            _floats = link.Allocate<float>(AllocationKind.Scratch, end);
            _integers = link.Allocate<int>(AllocationKind.Scratch, dims.BatchWords);
            ArrayView<float> all = _floats.View.AsContiguous();
            Input = all.SubView(inputAt, rotatedAt - inputAt);
            Rotated = all.SubView(rotatedAt, outputAt - rotatedAt);
            ScaledVectors = launchers.QueryForms > 1 ? dims.MaxTokens * g.QueryHeads : 0;
            Scaled = Rotated.SubView((long)ScaledVectors * g.KeyWidth, Rotated.Length - ((long)ScaledVectors * g.KeyWidth));
            Output = all.SubView(outputAt, OutputFloats);
            LogSumExp = all.SubView(sumsAt, sums);
            Partials = all.SubView(partialsAt, statsAt - partialsAt);
            PartialStats = all.SubView(statsAt, end - statsAt);
            Integers = _integers.View.AsContiguous();
            link.Staging.Hold(dims.BatchWords);
            Outcome = link.Pin<int>(1 + ((long)mostMoves * TranscodeKernels.MoveWords));
            PinnedPairs = link.Pin<float>(KeyFloats + values);
            PinnedQueries = link.Pin<float>(queries);
            PinnedOutput = link.Pin<float>(OutputFloats + sums);
        }
    }

    /// <summary>Floats of a full batch's keys: where its values begin.</summary>
    public int KeyFloats { get; }

    /// <summary>Floats of a full batch's output: where its log-sum-exps begin in pinned memory.</summary>
    public int OutputFloats { get; }

    /// <summary>Queries of slots whose partial results fit at once, those of at least one block over all heads and segments.</summary>
    public int PartialQueries { get; }

    public ArrayView<int> Integers { get; }

    public ArrayView<float> Input { get; }

    /// <summary>Rotated queries: those for I8, then those for T formats; no layer needs both where there is room for one.</summary>
    public ArrayView<float> Rotated { get; }

    /// <summary>Of the rotated queries those for T formats.</summary>
    public ArrayView<float> Scaled { get; }

    /// <summary>Vectors from the first of the rotated queries to those for T formats.</summary>
    public int ScaledVectors { get; }

    public ArrayView<float> Output { get; }

    public ArrayView<float> LogSumExp { get; }

    public ArrayView<float> Partials { get; }

    public ArrayView<float> PartialStats { get; }

    /// <summary>The first element that was refused, as the kernels number them, then the lists of the pages that the batch sealed.</summary>
    public PageLockedArray1D<int> Outcome { get; }

    public PageLockedArray1D<float> PinnedPairs { get; }

    public PageLockedArray1D<float> PinnedQueries { get; }

    public PageLockedArray1D<float> PinnedOutput { get; }

    /// <summary>Bytes on the device.</summary>
    public long DeviceBytes => _floats.LengthInBytes + _integers.LengthInBytes;

    public void Dispose()
    {
        Outcome.Dispose();
        PinnedPairs.Dispose();
        PinnedQueries.Dispose();
        PinnedOutput.Dispose();
        _link.Release(AllocationKind.Scratch, _floats);
        _link.Release(AllocationKind.Scratch, _integers);
    }
}
