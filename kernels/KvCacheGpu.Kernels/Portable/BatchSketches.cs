using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Scores pages in page-locked host memory for a batch. Lists and scores lie in such memory too, so that nothing is copied.</summary>
internal sealed class BatchSketches(PortableTier tier, BatchMemory memory, BatchInputs inputs, float scale, KernelDims dims) : SketchScorer, IDisposable
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;
    private SketchScoreLauncher? _score;
    private PageLockedArray1D<int>? _list;
    private PageLockedArray1D<float>? _scores;
    private int _tokens;
    private AcceleratorStream? _stream;

    /// <summary>The batch begins.</summary>
    public void Begin(int tokens, AcceleratorStream stream) => (_tokens, _stream) = (tokens, stream);

    public override void Score(int layer, KvTensor queries, ReadOnlySpan<SketchRead> pages, Span<float> scores)
    {
        queries.ThrowIfNotShaped(_tokens, _geometry.QueryHeads, _geometry.KeyWidth, nameof(queries));
        ArgumentOutOfRangeException.ThrowIfLessThan(scores.Length, pages.Length);
        inputs.WaitForQueries(queries);
        long epoch;
        lock (tier.Gate)
        {
            using DeviceBinding bound = tier.Enter(_stream);
            Hold(pages.Length);
            Describe(pages);
            BatchInput q = inputs.Queries(queries, inputs.Find(queries, nameof(queries)), _tokens);
            for (int first = 0, end; first < pages.Length; first = end)
            {
                for (end = first; end < pages.Length && pages[end].Block == pages[first].Block; end++)
                {
                }

                Launch(q, pages[first].Block, first, end - first);
            }

            epoch = tier.Link.Order.Count();
        }

        tier.Link.WaitFor(epoch);
        _scores!.Span[..pages.Length].CopyTo(scores);
    }

    public void Dispose()
    {
        _list?.Dispose();
        _scores?.Dispose();
    }

    private void Hold(int pages)
    {
        _score ??= tier.Link.Accelerator.LoadKernel<SketchScoreLauncher>(PortableKernels.ScoreSketches);
        if (pages > (_scores?.Length ?? 0))
        {
            // The last call has waited for the device: nothing reads them.
            Dispose();
            (_list, _scores) = (null, null);
            int room = checked(pages + (pages / 4) + 64);
            _list = tier.Link.Pin<int>(checked((long)room * SketchKernels.ListWords));
            _scores = tier.Link.Pin<float>(room);
        }
    }

    private void Describe(ReadOnlySpan<SketchRead> pages)
    {
        Span<int> list = _list!.Span;
        for (int i = 0; i < pages.Length; i++)
        {
            int at = i * SketchKernels.ListWords;
            (list[at], list[at + 1], list[at + 2]) = (pages[i].Unit, pages[i].Sequence, pages[i].Head);
        }
    }

    private void Launch(BatchInput queries, HostBlock block, int first, int count)
    {
        KeySketch sketch = tier.Transfers.Sketches;
        int floats = SketchKernels.ScoreFloats(_geometry.KeyWidth, sketch.Words, tier.GroupSize);
        _score!(
            tier.Link.Stream,
            new KernelConfig(count, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(floats)),
            memory.Integers,
            ((PinnedHostBlock)block).View.Cast<int>(),
            _list!.ArrayView,
            _scores!.ArrayView,
            queries.View,
            tier.KeySigns.View,
            new SketchQueries(queries.Dims, scale),
            new SketchDims(_geometry, sketch, first, tier.KeySigns.Norm),
            dims);
    }
}
