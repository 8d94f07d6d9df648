using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Page-locked host memory, and launches that copy pages from and to it. On CUDA pages come on a stream of their own, which waits for the launches that read their slots last and is waited for by what comes next; elsewhere
/// they come in the order of all work. Nothing is made before the first block is.
/// </summary>
internal sealed class DeviceTransfers : PageTransfers, IDisposable
{
    private readonly PortableTier _tier;
    private readonly DeviceLink _link;
    private readonly List<PageRead> _reads = [];
    private readonly List<PageTransfer> _sketches = [];
    private TransferLists? _lists;
    private TransferLauncher? _copy;
    private SketchLauncher? _sketch;
    private CudaStream? _beside;

    private DeviceTransfers(PortableTier tier)
        : base(tier) => (_tier, _link) = (tier, tier.Link);

    /// <summary>Those of a tier. OpenCL's kernels read no host memory: pages go through the tier's staging there.</summary>
    public static PageTransfers Of(PortableTier tier) =>
        tier.Link.Accelerator.AcceleratorType == AcceleratorType.OpenCL ? new PageTransfers(tier) : new DeviceTransfers(tier);

    public override HostBlock Allocate(int units)
    {
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _link.Bind();
            if (_lists is null)
            {
                _copy = _link.Accelerator.LoadKernel<TransferLauncher>(PortableKernels.TransferPages);
                _sketch = _link.Accelerator.LoadKernel<SketchLauncher>(PortableKernels.MakeSketches);
                _beside = (_link.Accelerator as CudaAccelerator)?.CreateStream(StreamFlags.CU_STREAM_NON_BLOCKING);
                _lists = new TransferLists(_link);
            }

            try
            {
                return new PinnedHostBlock(_link.Pin<int>((long)units * PageLayout.UnitWords));
            }
            catch (CudaException e)
            {
                throw new InsufficientMemoryException($"expected {(long)units * PageLayout.UnitBytes} bytes of page-locked host memory, got none", e);
            }
        }
    }

    public override void Unload(ReadOnlySpan<PageTransfer> pages)
    {
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter();
            while (pages.Length > 0)
            {
                ArrayView<int> list = _lists!.Take(pages, out int count);
                Copy(_link.Stream, pages[..count], list, loads: false);
                _lists.End(_link.Stream);
                pages = pages[count..];
            }
        }
    }

    public override void Sketch(ReadOnlySpan<PageSketch> pages)
    {
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter();
            while (pages.Length > 0)
            {
                _reads.Clear();
                _sketches.Clear();
                foreach (PageSketch page in pages[..Math.Min(pages.Length, _tier.Transcoder.MostKeys)])
                {
                    _reads.Add(new PageRead(page.Slot, page.PageClass, _tier.Shape.Geometry.PageTokens, 0, 1, page.KeyRow));
                    _sketches.Add(new PageTransfer(page.Slot, page.Block, page.Unit, Sketches.Units));
                }

                pages = pages[_reads.Count..];
                ArrayView<float> keys = _tier.Transcoder.DecodeKeys(_tier.Arena, CollectionsMarshal.AsSpan(_reads));
                ArrayView<int> list = _lists!.Take(CollectionsMarshal.AsSpan(_sketches), out _);
                Make(keys, list);
                _lists.End(_link.Stream);
            }
        }
    }

    public override void Load(ReadOnlySpan<PageTransfer> pages, long after)
    {
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _beside is null ? _tier.Enter() : _link.Bind();
            if (_beside is not null)
            {
                _link.Order.Hold(_beside, after);
            }

            AcceleratorStream stream = _beside ?? _link.Stream;
            while (pages.Length > 0)
            {
                ArrayView<int> list = _lists!.Take(pages, out int count);
                Copy(stream, pages[..count], list, loads: true);
                nint end = _lists.End(stream);
                pages = pages[count..];
                if (_beside is not null)
                {
                    _link.Order.FollowFrom(end);
                }
            }
        }
    }

    public override long Mark()
    {
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _link.Bind();
            return _link.Order.Mark();
        }
    }

    public override void WaitForLoads()
    {
        using DeviceBinding bound = _link.Bind();
        _beside?.Synchronize();
    }

    /// <summary>All work of the order has ended.</summary>
    public void Dispose()
    {
        if (!_link.Accelerator.IsDisposed)
        {
            _beside?.Synchronize();
            _beside?.Dispose();
        }

        _lists?.Dispose();
    }

    // A launch for each run of sketches in one block.
    private void Make(ArrayView<float> keys, ArrayView<int> list)
    {
        KvGeometry g = _tier.Shape.Geometry;
        int parts = (g.PageTokens + SketchKernels.TokensOfGroup - 1) / SketchKernels.TokensOfGroup;
        var shared = SharedMemoryConfig.RequestDynamic<float>(SketchKernels.MakeFloats(g.KeyWidth, _tier.GroupSize));
        for (int first = 0, end; first < _sketches.Count; first = end)
        {
            for (end = first; end < _sketches.Count && _sketches[end].Block == _sketches[first].Block; end++)
            {
            }

            _sketch!(
                _link.Stream,
                new KernelConfig((end - first) * parts, _tier.GroupSize, shared),
                keys,
                list,
                ((PinnedHostBlock)_sketches[first].Block).View.Cast<int>(),
                _tier.KeySigns.View,
                new SketchDims(g, Sketches, first, _tier.KeySigns.Norm));
        }

        _link.Order.Count();
    }

    // A launch for each run of pages in one block.
    private void Copy(AcceleratorStream stream, ReadOnlySpan<PageTransfer> pages, ArrayView<int> list, bool loads)
    {
        for (int first = 0, end; first < pages.Length; first = end)
        {
            int units = 0;
            for (end = first; end < pages.Length && pages[end].Block == pages[first].Block; end++)
            {
                units = Math.Max(units, pages[end].Units);
            }

            int parts = (units + TransferKernels.PartUnits - 1) / TransferKernels.PartUnits;
            ArrayView<long> host = ((PinnedHostBlock)pages[first].Block).View;
            var call = new TransferDims(first, parts, loads ? 1 : 0);
            _copy!(stream, new KernelConfig((end - first) * parts, _tier.GroupSize), _tier.Arena.Cast<long>(), host, list, call);
        }

        _link.Order.Count();
    }
}

/// <summary>Host memory that the device reads and writes by itself.</summary>
internal sealed class PinnedHostBlock(PageLockedArray1D<int> memory) : HostBlock
{
    /// <summary>The memory, as kernels take it.</summary>
    public ArrayView<long> View => memory.ArrayView.Cast<long>();

    public override Span<int> Words(int unit, int units) => memory.Span.Slice(checked(unit * PageLayout.UnitWords), units * PageLayout.UnitWords);

    public override void Dispose() => memory.Dispose();
}
