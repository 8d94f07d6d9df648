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
    private TransferLists? _lists;
    private TransferLauncher? _load;
    private TransferLauncher? _unload;
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
                _load = _link.Accelerator.LoadKernel<TransferLauncher>(PortableKernels.LoadPages);
                _unload = _link.Accelerator.LoadKernel<TransferLauncher>(PortableKernels.UnloadPages);
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
                Launch(_unload!, _link.Stream, pages[..count], list);
                _lists.End(_link.Stream);
                pages = pages[count..];
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
                Launch(_load!, stream, pages[..count], list);
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

    // A launch for each run of pages in one block.
    private void Launch(TransferLauncher launcher, AcceleratorStream stream, ReadOnlySpan<PageTransfer> pages, ArrayView<int> list)
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
            launcher(stream, new KernelConfig((end - first) * parts, _tier.GroupSize), _tier.Arena.Cast<long>(), host, list, first, parts);
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
