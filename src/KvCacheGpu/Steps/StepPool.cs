namespace KvCacheGpu;

/// <summary>
/// The transactions of a cache that no step uses. There are as many as steps ever ran at once, at most one for each sequence, so that a step that
/// begins allocates nothing.
/// </summary>
internal sealed class StepPool(CacheState cache, Pressure? pressure)
{
    private readonly Lock _lock = new();
    private readonly Stack<StepLease> _idle = new();

    /// <summary>Lends a transaction, the one that came back last.</summary>
    public StepLease Rent()
    {
        lock (_lock)
        {
            if (_idle.TryPop(out StepLease? lease))
            {
                return lease;
            }
        }

        return new StepLease(cache, pressure, this);
    }

    /// <summary>Takes a transaction back whose step has ended, or never began.</summary>
    public void Return(StepLease lease)
    {
        lock (_lock)
        {
            _idle.Push(lease);
        }
    }
}
