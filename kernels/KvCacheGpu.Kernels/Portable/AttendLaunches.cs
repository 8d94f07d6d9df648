using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>A batch as its attention launches see it.</summary>
/// <param name="Sequences">Sequences of the batch.</param>
/// <param name="Few">The blocks of sequences with few queries; of all sequences where the tier has blocks of one size.</param>
/// <param name="Some">The blocks of sequences with more queries than such a block takes.</param>
/// <param name="Many">The blocks of sequences with so many queries that a page is expanded once for a group of warps.</param>
internal readonly record struct BatchExtent(int Sequences, BlockRun Few, BlockRun Some, BlockRun Many);

/// <summary>Blocks that follow each other.</summary>
/// <param name="First">The first one.</param>
/// <param name="Blocks">Their number, 0 or more.</param>
/// <param name="Queries">Queries of each: 1, 4, 8 or 64.</param>
internal readonly record struct BlockRun(int First, int Blocks, int Queries);

/// <summary>The rows that attention walks.</summary>
/// <param name="Entries">Pages of the longest, or more.</param>
/// <param name="Window">Positions that a query sees at most.</param>
/// <param name="IsCaptured">True if the launches become part of a graph, and take no time.</param>
internal readonly record struct AttendedRows(int Entries, int Window, bool IsCaptured);

/// <summary>
/// The launches of attention over one layer: one for each pair of formats, then a merge, in as many waves as the partial results need.
/// Callers hold the tier's lock.
/// </summary>
internal sealed class AttendLaunches(PortableTier tier, BatchMemory memory, KernelDims dims)
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;

    private readonly TensorDims _rotated =
        new((int)TensorType.F32, tier.Shape.Geometry.QueryHeads * tier.Shape.Geometry.KeyWidth, tier.Shape.Geometry.KeyWidth);

    // How rows may be divided; the first is how they are where nothing is measured. Blocks of many queries have segments of their own.
    private readonly KernelDims[] _few = [dims, .. Others(tier).Select(tokens => new KernelDims(dims, Math.Max(1, tokens / tier.Shape.Geometry.PageTokens), dims.SegmentShift))];
    private readonly KernelDims[] _many =
    [
        .. Others(tier).Prepend(tier.SegmentTokens)
            .Select(tokens => new KernelDims(dims, Math.Max(1, Segments.ManyTimes * tokens / tier.Shape.Geometry.PageTokens), Segments.ManyShift)),
    ];

    private readonly LogitDims _logits = LogitDims.Of(tier.Shape.Geometry);

    /// <summary>Factor of the queries.</summary>
    public float Scale => _logits.Scale;

    /// <summary>Enqueues attention; log-sum-exps go to <see cref="BatchMemory.LogSumExp"/>.</summary>
    public void Attend(int layer, BatchInput queries, BatchExtent batch, AttendedRows rows, BatchOutput output)
    {
        Attend(layer, queries, batch.Few, rows, output);
        Attend(layer, queries, batch.Some, rows, output);
        Attend(layer, queries, batch.Many, rows, output);
    }

    /// <summary>Enqueues one more look at the keys, which adds to the pages' window scores.</summary>
    public void Observe(int layer, BatchInput queries, BatchExtent batch, int entries, int window, int last)
    {
        foreach (AttendForm form in tier.Launchers.Of(layer))
        {
            int shared = ObserveKernel.SharedFloats(_geometry, form.Map, tier.GroupSize);
            var config = new KernelConfig(
                batch.Sequences * _geometry.KvHeads * entries, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(shared));
            form.Observe(
                tier.Link.Stream,
                config,
                tier.Arena,
                memory.Integers,
                QueriesOf(form, queries),
                memory.LogSumExp,
                new ObserveDims(Describe(form, layer, queries, window), entries, last),
                dims);
        }
    }

    private void Attend(int layer, BatchInput queries, BlockRun run, AttendedRows rows, BatchOutput output)
    {
        if (run.Blocks == 0)
        {
            return;
        }

        SplitTrial trial = tier.Splits?.Begin(BucketOf(layer, run, rows), _few.Length, rows.IsCaptured ? null : tier.Link.Stream) ?? default;
        KernelDims divided = (run.Queries == BatchLaunchers.ManyQueries ? _many : _few)[trial.Variant];
        int segments = Math.Min(divided.MaxSegments, (rows.Entries + divided.SegmentPages - 1) / divided.SegmentPages);
        int end = run.First + run.Blocks;
        int most = memory.PartialQueries / (run.Queries * _geometry.KvHeads * segments);
        for (int block = run.First; block < end; block += most)
        {
            var wave = new Wave(block, Math.Min(most, end - block) * _geometry.KvHeads, segments, run.Queries, divided);
            Split(layer, queries, rows.Window, wave);
            Merge(layer, rows.Window, wave, output);
        }

        tier.Splits?.End(trial, tier.Link.Stream);
    }

    // A query of a window sees no more than its pages, however long its row is.
    private SplitBucket BucketOf(int layer, BlockRun run, AttendedRows rows)
    {
        int classes = 0;
        foreach (AttendForm form in tier.Launchers.Of(layer))
        {
            classes |= form.Classes;
        }

        int pages = Math.Min(rows.Entries, (rows.Window / _geometry.PageTokens) + 1);
        return SplitBucket.Of(run.Queries, classes, run.Blocks * _geometry.KvHeads, Math.Min(dims.MaxSegments, (pages + dims.SegmentPages - 1) / dims.SegmentPages));
    }

    private static int[] Others(PortableTier tier) => tier.Splits is null ? [] : [tier.SegmentTokens / 2, 2 * tier.SegmentTokens, 4 * tier.SegmentTokens];

    private void Split(int layer, BatchInput queries, int window, Wave wave)
    {
        ReadOnlySpan<AttendForm> forms = tier.Launchers.Of(layer);
        for (int launch = 0; launch < forms.Length; launch++)
        {
            AttendForm form = forms[launch];
            long count = (long)wave.Items * wave.Segments * wave.BlockQueries;
            form.Attention(wave.BlockQueries)(
                tier.Link.Stream,
                form.Config(wave.Items * wave.Segments, wave.BlockQueries, tier.GroupSize),
                tier.Arena,
                memory.Integers,
                QueriesOf(form, queries),
                memory.Partials.SubView(launch * count * _geometry.ValueWidth, count * _geometry.ValueWidth),
                memory.PartialStats.SubView(launch * count * AttendKernel.PartialWords, count * AttendKernel.PartialWords),
                new AttendDims(Describe(form, layer, queries, window), wave.Block, wave.Segments, wave.Items * wave.Segments),
                wave.Dims);
        }
    }

    private void Merge(int layer, int window, Wave wave, BatchOutput output)
    {
        ReadOnlySpan<AttendForm> forms = tier.Launchers.Of(layer);
        int rotated = 0;
        for (int launch = 0; launch < forms.Length; launch++)
        {
            rotated |= forms[launch].RotatesValues ? 1 << launch : 0;
        }

        var merge = new MergeDims(
            layer, wave.BlockQueries, wave.Block, wave.Segments, wave.Items * wave.Segments, forms.Length, rotated, window, (int)output.Type, tier.ValueSigns.Norm);
        var config = new KernelConfig(
            wave.Items * wave.BlockQueries, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(2 * _geometry.ValueWidth));
        tier.Launchers.Merge(
            tier.Link.Stream,
            config,
            tier.Arena,
            memory.Integers,
            memory.Partials,
            memory.PartialStats,
            output.View,
            memory.LogSumExp,
            tier.ValueSigns.View,
            merge,
            wave.Dims);
    }

    private ArrayView<ushort> QueriesOf(AttendForm form, BatchInput queries) =>
        form.ScalesKeys ? memory.Scaled.Cast<ushort>() : form.RotatesKeys ? memory.Rotated.Cast<ushort>() : queries.View;

    // Rotated queries are dense and scaled already.
    private LayerDims Describe(AttendForm form, int layer, BatchInput queries, int window) => form.RotatesKeys
        ? new LayerDims(layer, form.Classes, _rotated, _logits.OfScaled, window, form.Map)
        : new LayerDims(layer, form.Classes, queries.Dims, _logits, window, form.Map);

    private readonly record struct Wave(int Block, int Items, int Segments, int BlockQueries, KernelDims Dims);
}
