using System.Diagnostics.CodeAnalysis;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The host memory of a cache's pages, and what has become of them. It is taken in chunks of places for pages of one size, page-locked where the device copies by itself; a chunk without pages is given back, so that
/// pages of another size find room. Any thread.
/// </summary>
internal sealed class HostRoom(KernelTier tier, long limit) : IDisposable
{
    // Locking memory costs a call of the driver, and the pages of a chunk are copied and scored by one launch.
    private const long MostBytesOfChunk = 64 << 20;

    // What the chunks of one size leave empty stays a small part of the limit.
    private const int LeastChunks = 64;

    private readonly Lock _lock = new();
    private readonly HashSet<HostChunk> _chunks = [];
    private readonly Dictionary<int, List<HostChunk>> _withRoom = [];
    private readonly int[] _pages = new int[KernelShape.MaxClasses];
    private KvOffloadCounts _counts;
    private int _opened;
    private bool _isDisposed;

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

    /// <summary>Pages of a class that lie here.</summary>
    public int PagesOf(int pageClass)
    {
        lock (_lock)
        {
            return _pages[pageClass];
        }
    }

    /// <summary>Bytes that are not taken.</summary>
    public long FreeBytes
    {
        get
        {
            lock (_lock)
            {
                return limit - _counts.Bytes;
            }
        }
    }

    /// <summary>Takes a place for a page.</summary>
    /// <param name="pageClass">Its class.</param>
    /// <param name="place">Receives the place, of which nothing is read any longer.</param>
    /// <returns>False if there is none left, or if the page is open.</returns>
    public bool TryTake(int pageClass, [NotNullWhen(true)] out PagePlace? place)
    {
        PageLayout layout = tier.Shape.Classes[pageClass];
        lock (_lock)
        {
            List<HostChunk> withRoom = _withRoom.TryGetValue(layout.Units, out List<HostChunk>? found) ? found : _withRoom[layout.Units] = [];
            if (pageClass == KernelShape.Open || _isDisposed || (withRoom.Count == 0 && !TryOpen(layout, withRoom)))
            {
                _counts = _counts with { Dropped = _counts.Dropped + 1 };
                place = null;
                return false;
            }

            HostChunk chunk = withRoom[^1];
            place = chunk.Take(out bool wasUsed);
            if (chunk.IsFull)
            {
                withRoom.RemoveAt(withRoom.Count - 1);
            }

            if (wasUsed)
            {
                tier.Transfers.WaitForLoads();
            }

            _pages[pageClass]++;
            _counts = _counts with { Pages = _counts.Pages + 1, Offloaded = _counts.Offloaded + 1 };
            return true;
        }
    }

    /// <summary>Takes the place of a page of a class back.</summary>
    public void Give(PagePlace place, int pageClass)
    {
        lock (_lock)
        {
            _pages[pageClass]--;
            HostChunk chunk = place.Chunk;
            bool wasFull = chunk.IsFull;
            chunk.Give(place);
            _counts = _counts with { Pages = _counts.Pages - 1 };
            if (wasFull)
            {
                _withRoom[chunk.Units].Add(chunk);
            }

            if (chunk.Live == 0 && !_isDisposed)
            {
                _withRoom[chunk.Units].Remove(chunk);
                tier.Transfers.WaitForLoads();
                Close(chunk);
            }
        }
    }

    /// <summary>No place is taken back until the result is disposed.</summary>
    public Lock.Scope Hold() => _lock.EnterScope();

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

    /// <summary>Gives all memory back; nothing reads it any longer.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            tier.Transfers.WaitForLoads();
            foreach (HostChunk chunk in _chunks.ToArray())
            {
                Close(chunk);
            }
        }
    }

    private bool TryOpen(PageLayout layout, List<HostChunk> withRoom)
    {
        int units = layout.Units + tier.Transfers.Sketches.Units;
        long bytes = (long)units * PageLayout.UnitBytes;
        long places = Math.Clamp(Math.Min(limit / LeastChunks, MostBytesOfChunk) / bytes, 1, int.MaxValue);
        places = Math.Min(places, (limit - _counts.Bytes) / bytes);
        if (places == 0)
        {
            return false;
        }

        HostBlock block;
        try
        {
            block = tier.Transfers.Allocate(checked((int)(places * units)));
        }
        catch (OutOfMemoryException)
        {
            // The limit is the host's promise; the machine may hold less. Pages are dropped then, as they are beyond the limit.
            return false;
        }

        var chunk = new HostChunk(_opened++, block, layout.Units, tier.Transfers.Sketches.Units, (int)places);
        _chunks.Add(chunk);
        withRoom.Add(chunk);
        _counts = _counts with { Bytes = _counts.Bytes + chunk.Bytes };
        return true;
    }

    private void Close(HostChunk chunk)
    {
        _chunks.Remove(chunk);
        _counts = _counts with { Bytes = _counts.Bytes - chunk.Bytes };
        chunk.Block.Dispose();
    }
}
