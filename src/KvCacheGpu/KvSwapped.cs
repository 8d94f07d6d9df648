namespace KvCacheGpu;

/// <summary>
/// Sequences that were swapped out of a cache: whole and bit for bit, in host memory. <see cref="KvCacheSwapping.SwapInAsync"/> makes sequences of them again; disposed before, they are gone.
/// </summary>
/// <remarks>Thread safety: members may be called from any thread.</remarks>
public sealed class KvSwapped : IDisposable
{
    private readonly CacheState _from;
    private SwappedPages? _pages;

    internal KvSwapped(CacheState from, SwappedPages pages)
    {
        (_from, _pages) = (from, pages);
        (Bytes, Lengths) = (pages.Bytes, pages.Lengths);
    }

    /// <summary>Bytes of host memory that the pages take.</summary>
    public long Bytes { get; }

    /// <summary>Tokens of each sequence, in the order in which they were named.</summary>
    public IReadOnlyList<int> Lengths { get; }

    /// <summary>Gives the memory back, and the sequences up. Does nothing if they were swapped in.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _pages, null) is not null)
        {
            _from.Swapped.Give(Bytes);
        }
    }

    /// <summary>Takes the pages to put them back; <see cref="PutBack"/> or <see cref="Done"/> follows.</summary>
    /// <exception cref="ObjectDisposedException">They were swapped in, are being so, or were given up.</exception>
    internal SwappedPages Take() =>
        Interlocked.Exchange(ref _pages, null) ?? throw new ObjectDisposedException(nameof(KvSwapped), "expected sequences that are swapped out, got some that were swapped in or disposed");

    /// <summary>Puts back what could not be swapped in.</summary>
    internal void PutBack(SwappedPages pages) => Volatile.Write(ref _pages, pages);

    /// <summary>Gives the memory back once the sequences are in a cache.</summary>
    internal void Done() => _from.Swapped.Give(Bytes);
}
