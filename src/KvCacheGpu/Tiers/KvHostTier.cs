namespace KvCacheGpu;

/// <summary>
/// A tier in the memory of this process. It takes memory as blocks come, up to a limit; then the block used longest ago goes, and reading is use. Of a run of blocks
/// the last counts as used first, since a prefix without its beginning is of no use.
/// </summary>
/// <remarks>
/// Reading and writing are copies, done before the call returns. Blocks lie in memory that the garbage collector does not see.
/// Thread safety: members may be called from any thread; bytes are copied outside of the lock. Calls that run while it is disposed end as they would have; later ones
/// are misses.
/// </remarks>
public sealed unsafe class KvHostTier : KvTier, IDisposable
{
    private readonly Lock _lock = new();
    private readonly HostPlaces _places;
    private readonly HostMemory _memory;
    private readonly long _limit;
    private int _copying;
    private bool _isDisposed;

    /// <summary>A tier that holds nothing yet.</summary>
    /// <param name="bytesLimit">Bytes of blocks that it may hold.</param>
    /// <exception cref="ArgumentOutOfRangeException">The limit is below 1.</exception>
    public KvHostTier(long bytesLimit)
        : this(bytesLimit, HostMemory.Plain())
    {
    }

    internal KvHostTier(long bytesLimit, HostMemory memory)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytesLimit, 1);
        (_limit, _places, _memory) = (bytesLimit, new HostPlaces(bytesLimit), memory);
    }

    /// <summary>Frees the memory of a tier that was never disposed.</summary>
    ~KvHostTier() => _memory?.FreeAll();

    /// <inheritdoc/>
    public override string Name => "host";

    /// <inheritdoc/>
    public override long? BytesInUse
    {
        get
        {
            lock (_lock)
            {
                return _isDisposed ? 0 : _places.Bytes;
            }
        }
    }

    /// <inheritdoc/>
    public override long? BytesLimit => _limit;

    /// <summary>Frees all memory, once running calls have ended.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            FreeIfOver();
        }

        GC.SuppressFinalize(this);
    }

    /// <inheritdoc/>
    protected override ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken) =>
        ValueTask.FromResult(Read(keys.Span, blocks.Span, cancellationToken));

    /// <inheritdoc/>
    protected override ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken) =>
        ValueTask.FromResult(Write(keys.Span, blocks.Span, cancellationToken));

    private int Read(ReadOnlySpan<BlockHash> keys, Span<byte> blocks, CancellationToken cancel)
    {
        int bytes = blocks.Length / keys.Length;
        int[] places = new int[keys.Length];
        nint[] memory = new nint[keys.Length];
        int found;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            found = _places.PrepareLoad(keys, bytes, places);
            _places.Touch(keys[..found]);
            for (int i = 0; i < found; i++)
            {
                memory[i] = _memory.At(places[i]);
            }

            _copying++;
        }

        try
        {
            for (int i = 0; i < found; i++)
            {
                cancel.ThrowIfCancellationRequested();
                new ReadOnlySpan<byte>((void*)memory[i], bytes).CopyTo(blocks.Slice(i * bytes, bytes));
            }

            return found;
        }
        finally
        {
            lock (_lock)
            {
                _places.CompleteLoad(keys[..found]);
                EndCopy();
            }
        }
    }

    private int Write(ReadOnlySpan<BlockHash> keys, ReadOnlySpan<byte> blocks, CancellationToken cancel)
    {
        int bytes = blocks.Length / keys.Length;
        if (bytes > _limit)
        {
            throw new KvConfigurationException("the limit of the host tier", $"at least {bytes} bytes, which one block has", $"{_limit}");
        }

        List<HostPlace> stored = [];
        nint[] memory;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            keys = keys[..Prepare(keys, bytes, stored)];
            memory = Allocate(stored, bytes);
            _copying++;
        }

        bool isFilled = false;
        try
        {
            for (int i = 0, next = 0; next < stored.Count; i++)
            {
                if (keys[i] == stored[next].Key)
                {
                    cancel.ThrowIfCancellationRequested();
                    blocks.Slice(i * bytes, bytes).CopyTo(new Span<byte>((void*)memory[next++], bytes));
                }
            }

            isFilled = true;
            return stored.Count;
        }
        finally
        {
            lock (_lock)
            {
                End(stored, isFilled);
                _places.Touch(keys);
                EndCopy();
            }
        }
    }

    // A run that does not fit, since it is longer than the limit or other calls hold the places, is kept in part: its beginning.
    private int Prepare(ReadOnlySpan<BlockHash> keys, int bytes, List<HostPlace> stored)
    {
        List<HostPlace> evicted = [];
        int count = (int)Math.Min(keys.Length, _limit / bytes);
        while (!_places.PrepareStore(keys[..count], bytes, stored, evicted))
        {
            count /= 2;
        }

        HashSet<int> taken = [.. stored.Select(place => place.Number)];
        foreach (HostPlace place in evicted)
        {
            // Before new memory is taken, so that both together stay within the limit.
            _memory.FreeUnless(place.Number, taken.Contains(place.Number) ? bytes : 0);
        }

        return count;
    }

    private nint[] Allocate(List<HostPlace> stored, int bytes)
    {
        try
        {
            return [.. stored.Select(place => _memory.Take(place.Number, bytes))];
        }
        catch
        {
            End(stored, isFilled: false);
            throw;
        }
    }

    private void End(List<HostPlace> stored, bool isFilled)
    {
        _places.CompleteStore([.. stored], isFilled);
        foreach (HostPlace place in isFilled ? [] : stored)
        {
            _memory.Free(place.Number);
        }
    }

    private void EndCopy()
    {
        _copying--;
        FreeIfOver();
    }

    private void FreeIfOver()
    {
        if (_isDisposed && _copying == 0)
        {
            _memory.FreeAll();
        }
    }
}
