using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The host memory of a cache's pages, and what has become of them. Any thread.</summary>
internal sealed class HostRoom(KernelShape shape, long limit)
{
    private readonly Lock _lock = new();
    private KvOffloadCounts _counts;

    /// <summary>What has become of pages so far.</summary>
    public KvOffloadCounts Counts
    {
        get
        {
            lock (_lock)
            {
                return _counts;
            }
        }
    }

    /// <summary>Takes the bytes of a page.</summary>
    /// <returns>False if there are too few left, or if the page carries no digest to find it by.</returns>
    public bool TryTake(int pageClass)
    {
        PageLayout layout = shape.Classes[pageClass];
        long bytes = HostPage.BytesOf(layout);
        lock (_lock)
        {
            bool fits = pageClass != KernelShape.Open && _counts.Bytes + bytes <= limit;
            _counts = fits
                ? _counts with { Pages = _counts.Pages + 1, Bytes = _counts.Bytes + bytes, Offloaded = _counts.Offloaded + 1 }
                : _counts with { Dropped = _counts.Dropped + 1 };
            return fits;
        }
    }

    /// <summary>Takes the bytes of a page of a class back.</summary>
    public void Give(int pageClass)
    {
        lock (_lock)
        {
            _counts = _counts with { Pages = _counts.Pages - 1, Bytes = _counts.Bytes - HostPage.BytesOf(shape.Classes[pageClass]) };
        }
    }

    /// <summary>Counts one attention's pages.</summary>
    /// <param name="fetched">Copied to the device.</param>
    /// <param name="staged">There already.</param>
    /// <param name="leftOut">Not read.</param>
    public void Count(long fetched, long staged, long leftOut)
    {
        lock (_lock)
        {
            _counts = _counts with { Fetched = _counts.Fetched + fetched, Staged = _counts.Staged + staged, LeftOut = _counts.LeftOut + leftOut };
        }
    }
}
