using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Pinned host memory that small integers pass through on their way to the device: descriptions of batches, words of tables, lists of moves. A ring, so
/// that the next ones are written while copies of those before have not been made; only where it is full does a thread wait. Callers hold the tier's lock.
/// </summary>
internal sealed class Staging(DeviceLink link) : IDisposable
{
    // Of the largest piece: steps that are enqueued ahead find room for their own.
    private const int Pieces = 4;

    private readonly Queue<(long End, long Epoch)> _pieces = new();
    private PageLockedArray1D<int>? _ring;
    private long _begin;
    private long _end;
    private int _at;
    private int _words;

    /// <summary>Makes room for pieces of so many words.</summary>
    public void Hold(long words)
    {
        if (words * Pieces > (_ring?.Length ?? 0))
        {
            link.Synchronize();
            _ring?.Dispose();
            _ring = link.Pin<int>(checked((int)(words * Pieces)));
            _pieces.Clear();
            (_begin, _end) = (0, 0);
        }
    }

    /// <summary>Reserves room for a piece; waits where copies of earlier ones still read it.</summary>
    /// <param name="words">As many as <see cref="Hold"/> was told, at most.</param>
    /// <returns>The piece, to be written and then given to <see cref="Upload"/>.</returns>
    public Span<int> Reserve(int words)
    {
        int capacity = (int)_ring!.Length;
        int at = (int)(_end % capacity);
        long skipped = at + words > capacity ? capacity - at : 0;
        while (_end + skipped + words - _begin > capacity)
        {
            (_begin, long epoch) = _pieces.Dequeue();
            link.Order.WaitFor(epoch);
        }

        _end += skipped;
        (_at, _words) = ((int)(_end % capacity), words);
        return _ring.Span.Slice(_at, words);
    }

    /// <summary>Enqueues the copy of the piece that was reserved last, or of its first words.</summary>
    public void Upload(ArrayView<int> target, int words)
    {
        long epoch = link.Upload(_ring!, _at, target, words);
        _end += _words;
        _pieces.Enqueue((_end, epoch));
    }

    public void Dispose() => _ring?.Dispose();
}
