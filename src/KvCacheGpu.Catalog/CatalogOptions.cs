namespace KvCacheGpu.Catalog;

/// <summary>The number of retries of a catalog, and the times that it waits for its database.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed class CatalogOptions
{
    /// <summary>How often an operation is tried again after a temporary fault: a restarted server, a locked file. The default value is 5.</summary>
    public int Retries { get; init; } = 5;

    /// <summary>The wait before the first retry; each later one waits twice as long. The default value is 50 milliseconds.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>The longest wait for a connection, and for a lock that another process holds. The default value is 10 seconds.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    internal CatalogOptions Check()
    {
        ArgumentOutOfRangeException.ThrowIfNegative(Retries);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Retries, 20);
        ArgumentOutOfRangeException.ThrowIfLessThan(RetryDelay, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThan(Timeout, TimeSpan.FromSeconds(1));
        return this;
    }
}
