using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Scores pages in page-locked host memory for a batch. Lists and scores lie in such memory too, so that nothing is copied.</summary>
internal sealed class BatchDigests(PortableTier tier, BatchMemory memory, BatchInputs inputs, AttendLaunches launches, KernelDims dims) : DigestScorer, IDisposable
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;
    private DigestLauncher? _score;
    private PageLockedArray1D<int>? _list;
    private PageLockedArray1D<float>? _scores;
    private int _tokens;
    private AcceleratorStream? _stream;

    /// <summary>The batch begins.</summary>
    public void Begin(int tokens, AcceleratorStream stream) => (_tokens, _stream) = (tokens, stream);

    public override void Score(int layer, KvTensor queries, ReadOnlySpan<DigestRead> pages, Span<float> scores)
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
            ArrayView<ushort> found = inputs.Find(queries, nameof(queries));
            BatchInput q = inputs.Queries(queries, found, _tokens);
            inputs.Rotate(layer, q, _tokens, launches.Scale, dims);
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
        _score ??= tier.Link.Accelerator.LoadKernel<DigestLauncher>(PortableKernels.ScoreDigests);
        if (pages > (_scores?.Length ?? 0))
        {
            // The last call has waited for the device: nothing reads them.
            Dispose();
            (_list, _scores) = (null, null);
            int room = checked(pages + (pages / 4) + 64);
            _list = tier.Link.Pin<int>(checked((long)room * DigestKernel.ListWords));
            _scores = tier.Link.Pin<float>(room);
        }
    }

    private void Describe(ReadOnlySpan<DigestRead> pages)
    {
        Span<int> list = _list!.Span;
        for (int i = 0; i < pages.Length; i++)
        {
            PageLayout layout = tier.Shape.Classes[pages[i].PageClass];
            bool isCentered = layout.KeyFormat.IsCentered();
            Span<int> at = list.Slice(i * DigestKernel.ListWords, DigestKernel.ListWords);
            (at[0], at[1], at[2]) = (pages[i].Unit, 2 * layout.DigestOffset, isCentered ? 2 * layout.KeyScaleOffset : -1);
            (at[3], at[4], at[5]) = (pages[i].Sequence, pages[i].Head, isCentered ? 2 : layout.KeyFormat.IsRotated() ? 1 : 0);
        }
    }

    private void Launch(BatchInput queries, HostBlock block, int first, int count) => _score!(
        tier.Link.Stream,
        new KernelConfig(count, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(DigestKernel.SharedFloats(_geometry.KeyWidth, tier.GroupSize))),
        memory.Integers,
        ((PinnedHostBlock)block).View.Cast<ushort>(),
        _list!.ArrayView,
        _scores!.ArrayView,
        queries.View,
        memory.Rotated,
        new DigestDims(first, queries.Dims, memory.ScaledVectors, launches.Scale, tier.Shape.Classes[0].DigestStride),
        dims);
}
