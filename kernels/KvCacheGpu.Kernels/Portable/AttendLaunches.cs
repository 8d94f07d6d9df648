using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>A batch as its attention launches see it.</summary>
/// <param name="Sequences">Sequences of the batch.</param>
/// <param name="Blocks">Blocks of queries.</param>
/// <param name="BlockQueries">Queries of a block: 1 or 4.</param>
internal readonly record struct BatchExtent(int Sequences, int Blocks, int BlockQueries);

/// <summary>
/// The launches of attention over one layer: one for each pair of formats, then a merge, in as many waves as the partial results need.
/// Callers hold the tier's lock.
/// </summary>
internal sealed class AttendLaunches(PortableTier tier, BatchMemory memory, KernelDims dims)
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;

    private readonly TensorDims _rotated =
        new((int)TensorType.F32, tier.Shape.Geometry.QueryHeads * tier.Shape.Geometry.KeyWidth, tier.Shape.Geometry.KeyWidth);

    private readonly LogitDims _logits = LogitDims.Of(tier.Shape.Geometry);

    /// <summary>Factor of the queries.</summary>
    public float Scale => _logits.Scale;

    /// <summary>Enqueues attention; log-sum-exps go to <see cref="BatchMemory.LogSumExp"/>.</summary>
    public void Attend(int layer, BatchInput queries, BatchExtent batch, int entries, int window, BatchOutput output)
    {
        int segments = Math.Min(Segments.Max, (entries + dims.SegmentPages - 1) / dims.SegmentPages);
        int wave = Math.Max(1, memory.Slots / (_geometry.KvHeads * segments));
        for (int block = 0; block < batch.Blocks; block += wave)
        {
            int items = Math.Min(wave, batch.Blocks - block) * _geometry.KvHeads;
            Split(layer, queries, window, new Wave(block, items, segments, batch.BlockQueries));
            Merge(layer, window, new Wave(block, items, segments, batch.BlockQueries), output);
        }
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

    private void Split(int layer, BatchInput queries, int window, Wave wave)
    {
        ReadOnlySpan<AttendForm> forms = tier.Launchers.Of(layer);
        for (int launch = 0; launch < forms.Length; launch++)
        {
            AttendForm form = forms[launch];
            int shared = AttendKernel.SharedFloats(wave.BlockQueries, _geometry, form.Map, tier.GroupSize);
            var config = new KernelConfig(wave.Items * wave.Segments, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(shared));
            long count = (long)wave.Items * wave.Segments * wave.BlockQueries;
            AttendLauncher attend = wave.BlockQueries == 1 ? form.One : form.Four;
            attend(
                tier.Link.Stream,
                config,
                tier.Arena,
                memory.Integers,
                QueriesOf(form, queries),
                memory.Partials.SubView(launch * count * _geometry.ValueWidth, count * _geometry.ValueWidth),
                memory.PartialStats.SubView(launch * count * AttendKernel.PartialWords, count * AttendKernel.PartialWords),
                new AttendDims(Describe(form, layer, queries, window), wave.Block, wave.Segments, wave.Items * wave.Segments),
                dims);
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
            dims);
    }

    private ArrayView<ushort> QueriesOf(AttendForm form, BatchInput queries) =>
        form.ScalesKeys ? memory.Scaled.Cast<ushort>() : form.RotatesKeys ? memory.Rotated.Cast<ushort>() : queries.View;

    // Rotated queries are dense and scaled already.
    private LayerDims Describe(AttendForm form, int layer, BatchInput queries, int window) => form.RotatesKeys
        ? new LayerDims(layer, form.Classes, _rotated, _logits.OfScaled, window, form.Map)
        : new LayerDims(layer, form.Classes, queries.Dims, _logits, window, form.Map);

    private readonly record struct Wave(int Block, int Items, int Segments, int BlockQueries);
}
