using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The keys and values of many sequences on one device, in pages.</summary>
public sealed class KvCache : IDisposable, IAsyncDisposable
{
    /// <summary>Makes a cache and reserves its memory.</summary>
    public KvCache(KvGeometry geometry, KvCacheConfig? config = null) => throw new NotImplementedException();

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry => throw new NotImplementedException();

    /// <summary>What the cache was made with.</summary>
    public KvCacheConfig Config => throw new NotImplementedException();

    /// <summary>The kernels' name: "simd-512".</summary>
    public string TierName => throw new NotImplementedException();

    /// <summary>The device's name.</summary>
    public string DeviceName => throw new NotImplementedException();

    /// <summary>Bytes of the arena.</summary>
    public long ReservedBytes => throw new NotImplementedException();

    /// <summary>Live bytes.</summary>
    public long AllocatedBytes => throw new NotImplementedException();

    /// <summary>Bytes that may be live.</summary>
    public long BudgetBytes => throw new NotImplementedException();

    /// <summary>Makes an empty sequence.</summary>
    public KvSequence CreateSequence() => throw new NotImplementedException();

    /// <summary>Makes a batch.</summary>
    public KvBatch CreateBatch(params ReadOnlySpan<KvSequence> sequences) => throw new NotImplementedException();

    /// <summary>Counts pages.</summary>
    public KvPageCounts GetPageCounts() => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => throw new NotImplementedException();
}
