namespace KvCacheGpu;

/// <summary>Which blocks lie where on the disk, and which file was used when. A file that is dropped is closed when its last read ends.</summary>
/// <remarks>Any thread may call it. It reads and writes no file.</remarks>
internal sealed class DiskIndex
{
    private readonly Lock _lock = new();
    private readonly Dictionary<BlockHash, DiskPlace> _places = [];
    private readonly List<DiskSegment> _segments = [];
    private long _uses;
    private bool _isClosed;

    /// <summary>Bytes of the files.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _segments.Sum(segment => segment.Bytes);
            }
        }
    }

    /// <summary>Files.</summary>
    public int Segments
    {
        get
        {
            lock (_lock)
            {
                return _segments.Count;
            }
        }
    }

    /// <summary>Adds a file with its blocks, as used later than those before. A block that another file has too is taken from this one.</summary>
    public void Add(DiskSegment segment)
    {
        lock (_lock)
        {
            _segments.Add(segment);
            segment.LastUse = ++_uses;
            for (int slot = 0; slot < segment.Records.Count; slot++)
            {
                (BlockHash key, uint sum) = segment.Records[slot];
                if (!key.IsNull)
                {
                    _places[key] = new DiskPlace(segment, slot, sum);
                }
            }
        }
    }

    /// <summary>Adds a block that was written whole.</summary>
    public void Add(DiskSegment segment, in BlockHash key, uint sum)
    {
        lock (_lock)
        {
            _places[key] = new DiskPlace(segment, segment.Records.Count, sum);
            segment.Add(key, sum);
            segment.LastUse = ++_uses;
        }
    }

    /// <summary>Notes that a block is used, if it is there.</summary>
    public bool Touch(in BlockHash key)
    {
        lock (_lock)
        {
            bool isThere = _places.TryGetValue(key, out DiskPlace place);
            if (isThere)
            {
                place.Segment.LastUse = ++_uses;
            }

            return isThere;
        }
    }

    /// <summary>Finds the blocks at the head of a run, and holds their files until <see cref="Release"/>.</summary>
    /// <param name="keys">The run.</param>
    /// <param name="length">Bytes of each block.</param>
    /// <param name="places">Receives where they lie.</param>
    /// <returns>How many there are.</returns>
    public int Take(ReadOnlySpan<BlockHash> keys, int length, Span<DiskPlace> places)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            int found = 0;
            while (found < keys.Length && _places.TryGetValue(keys[found], out DiskPlace place) && place.Segment.Length == length)
            {
                place.Segment.Readers++;
                place.Segment.LastUse = ++_uses;
                places[found++] = place;
            }

            return found;
        }
    }

    /// <summary>Ends what <see cref="Take"/> began.</summary>
    public void Release(ReadOnlySpan<DiskPlace> places)
    {
        lock (_lock)
        {
            foreach (DiskPlace place in places)
            {
                place.Segment.Readers--;
                CloseIfOver(place.Segment);
            }
        }
    }

    /// <summary>Forgets a block that proved damaged, unless it was written anew meanwhile.</summary>
    public void Forget(in BlockHash key, in DiskPlace place)
    {
        lock (_lock)
        {
            if (_places.TryGetValue(key, out DiskPlace now) && now == place)
            {
                _places.Remove(key);
            }
        }
    }

    /// <summary>The file used longest ago, without one that stays; null if there is none.</summary>
    public DiskSegment? Oldest(DiskSegment? kept)
    {
        lock (_lock)
        {
            return _segments.Where(segment => segment != kept).MinBy(segment => segment.LastUse);
        }
    }

    /// <summary>Forgets a file and its blocks.</summary>
    public void Drop(DiskSegment segment)
    {
        lock (_lock)
        {
            _segments.Remove(segment);
            foreach ((BlockHash key, _) in segment.Records)
            {
                if (_places.TryGetValue(key, out DiskPlace place) && place.Segment == segment)
                {
                    _places.Remove(key);
                }
            }

            segment.IsDropped = true;
            CloseIfOver(segment);
        }
    }

    /// <summary>Forgets all.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _isClosed = true;
            while (_segments.Count > 0)
            {
                Drop(_segments[^1]);
            }
        }
    }

    private static void CloseIfOver(DiskSegment segment)
    {
        if (segment.IsDropped && segment.Readers == 0)
        {
            segment.Close();
        }
    }
}
