using System.Globalization;

namespace KvCacheGpu;

/// <summary>Writes blocks into the files of a folder, one after the other, and drops the files used longest ago so that all stay within a limit. One thread at a time calls it.</summary>
internal sealed class DiskWriter
{
    /// <summary>Each file is an open descriptor. Where blocks have many lengths, or processes end early, files are small and many.</summary>
    public const int MostSegments = 512;

    private const string NameStart = "blocks-";
    private const int NumberDigits = 16;
    private const long UsualSegmentBytes = 64 << 20;

    private readonly OpenFile _directory;
    private readonly DiskIndex _index;
    private readonly long _limit;
    private readonly Action<Exception> _note;
    private readonly Dictionary<int, DiskSegment> _current = [];
    private long _number;
    private long _turn;
    private bool _isDiskFull;

    /// <summary>Opens what lies in a folder.</summary>
    /// <param name="directory">The folder.</param>
    /// <param name="index">Receives the blocks.</param>
    /// <param name="limit">Bytes of all files.</param>
    /// <param name="note">Told what was left out.</param>
    public DiskWriter(OpenFile directory, DiskIndex index, long limit, Action<Exception> note)
    {
        (_directory, _index, _limit, _note) = (directory, index, limit, note);
        List<DiskSegment> segments = [];
        foreach ((string name, long number) in directory.Files.List(directory.Descriptor).Select(name => (name, NumberOf(name))).Where(file => file.Item2 > 0).OrderBy(file => file.Item2))
        {
            _number = number;
            if (Open(name) is { } segment)
            {
                segments.Add(segment);
            }
        }

        // As used when they were last written: of files of several lengths, an older one may have newer blocks.
        foreach (DiskSegment segment in segments.OrderBy(segment => segment.LastTurn))
        {
            _turn = segment.LastTurn;
            _index.Add(segment);
            _current[segment.Length] = segment;
            if (segment.Records.Count == 0)
            {
                Drop(segment);
            }
        }

        MakeRoom(0, null);
    }

    /// <summary>Bytes from which on a file takes no further block. A tenth of a small limit, so that little is dropped at once; no more than 256 files of a large one.</summary>
    private long SegmentBytes => Math.Max(Math.Min(UsualSegmentBytes, _limit / 10), _limit / 256);

    /// <summary>Writes a block that is not there.</summary>
    /// <exception cref="FileCallException">The disk refused. The block is left out.</exception>
    /// <exception cref="KvConfigurationException">It is larger than the limit.</exception>
    public void Write(in BlockHash key, ReadOnlySpan<byte> block)
    {
        DiskSegment segment = SegmentFor(block.Length);
        try
        {
            _index.Add(segment, key, segment.Write(key, block, ++_turn));
        }
        catch (FileCallException error)
        {
            _current.Remove(segment.Length);
            if (segment.Records.Count == 0)
            {
                Drop(segment);
            }

            _isDiskFull = error.Error is FileCallException.NoSpace or FileCallException.Quota;
            throw;
        }
    }

    private static long NumberOf(string name) =>
        name.Length == NameStart.Length + NumberDigits
            && name.StartsWith(NameStart, StringComparison.Ordinal)
            && long.TryParse(name.AsSpan(NameStart.Length), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out long number)
            ? number
            : 0;

    private DiskSegment? Open(string name)
    {
        try
        {
            return DiskSegment.Open(_directory, name);
        }
        catch (KvCorruptionException error)
        {
            _note(error);
            Remove(name);
        }
        catch (Exception error) when (error is FileCallException or KvCacheException)
        {
            _note(error);
        }

        return null;
    }

    private DiskSegment SegmentFor(int length)
    {
        long record = DiskFormat.HeaderBytes + (long)length;
        if (DiskFormat.HeaderBytes + record > _limit)
        {
            throw new KvConfigurationException("the limit of the disk tier", $"at least {DiskFormat.HeaderBytes + record} bytes, which a file of one block has", $"{_limit}");
        }

        if (_current.TryGetValue(length, out DiskSegment? segment) && segment.Records.Count > 0 && segment.BytesWithOneMore > SegmentBytes)
        {
            _current.Remove(length);
            segment = null;
        }

        if (_isDiskFull && _index.Oldest(segment) is { } oldest)
        {
            // The disk has less room than the limit says: what is new goes before what is old.
            Drop(oldest);
        }

        _isDiskFull = false;
        MakeRoom(segment is null ? DiskFormat.HeaderBytes + record : Math.Max(0, segment.BytesWithOneMore - segment.Bytes), segment);
        return segment ?? Create(length);
    }

    private void MakeRoom(long bytes, DiskSegment? kept)
    {
        int files = kept is null && bytes > 0 ? 1 : 0;
        while ((_index.Bytes + bytes > _limit || _index.Segments + files > MostSegments) && _index.Oldest(kept) is { } oldest)
        {
            Drop(oldest);
        }
    }

    private DiskSegment Create(int length)
    {
        string name = $"{NameStart}{++_number:x16}";
        try
        {
            DiskSegment segment = DiskSegment.Create(_directory, name, length);
            _index.Add(segment);
            return _current[length] = segment;
        }
        catch (FileCallException error) when (error.Error != FileCallException.Exists)
        {
            _isDiskFull = error.Error is FileCallException.NoSpace or FileCallException.Quota;
            Remove(name);
            throw;
        }
    }

    private void Drop(DiskSegment segment)
    {
        if (_current.TryGetValue(segment.Length, out DiskSegment? current) && current == segment)
        {
            _current.Remove(segment.Length);
        }

        _index.Drop(segment);
        Remove(segment.Name);
    }

    private void Remove(string name)
    {
        try
        {
            _directory.Remove(name);
        }
        catch (FileCallException error)
        {
            // Whoever opens the folder next finds it, and counts it.
            _note(error);
        }
    }
}
