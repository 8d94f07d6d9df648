namespace KvCacheGpu;

/// <summary>Sequences and their pages in host memory, on their way out of a cache and back: a snapshot that no file holds.</summary>
internal sealed class SwappedPages
{
    // Pages are copied by so many bytes at once, or one by one where a page is larger.
    private const int MostBytesAtOnce = 4 << 20;

    private readonly SnapshotContent _content;
    private readonly string?[] _names;
    private readonly List<byte[]> _parts = [];

    private readonly IReadOnlySet<int> _away;

    private SwappedPages(SnapshotContent content, string?[] names, IReadOnlySet<int> away)
    {
        (_content, _names, _away) = (content, names, away);
        for (int ordinal = 0; ordinal < content.Pages; ordinal++)
        {
            Bytes += content.BytesOf(ordinal);
        }
    }

    /// <summary>Bytes of the pages; shared ones count once.</summary>
    public long Bytes { get; }

    /// <summary>Tokens of each sequence.</summary>
    public IReadOnlyList<int> Lengths => [.. _content.Sequences.Select(sequence => sequence.Length)];

    /// <summary>Takes sequences out of a cache: all of them, or none.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequences">The sequences, each entered by the caller, who leaves them if this throws.</param>
    /// <param name="take">Told of the bytes before they are copied: it throws if there is no room for them.</param>
    /// <param name="cancel">Ends it, with every sequence as it was.</param>
    public static SwappedPages Out(CacheState cache, ReadOnlySpan<SequenceState> sequences, Action<long> take, CancellationToken cancel)
    {
        using var capture = new CacheCapture(cache);
        string?[] names = new string?[sequences.Length];
        for (int i = 0; i < sequences.Length; i++)
        {
            names[i] = sequences[i].Name;
            capture.Add(sequences[i]);
        }

        var swapped = new SwappedPages(capture.Content, names, capture.Away);
        take(swapped.Bytes);
        swapped.Copy(capture, cancel);
        return swapped;
    }

    /// <summary>Puts the sequences back, bit for bit where the cache lays pages out alike; or refuses, and they stay here.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: there is no room for all of them.</exception>
    public IReadOnlyList<SequenceState> In(CacheState cache, SequenceLife life, Evictor? evictor, CancellationToken cancel)
    {
        // What was swapped out comes back whole: a policy is asked only which pages lie in host memory.
        var restore = new CacheRestore(cache, life, cache.Offload is null ? null : evictor, null, keepsAll: true);
        restore.Begin(_content, cache.Offload is null ? null : _away);
        try
        {
            int ordinal = 0;
            foreach (byte[] part in _parts)
            {
                cancel.ThrowIfCancellationRequested();
                restore.Write(ordinal, part);
                ordinal = End(ordinal, part.Length);
            }

            RestoredSequences restored = restore.Complete();
            for (int i = 0; i < _names.Length; i++)
            {
                restored.Sequences[i].Name = _names[i];
            }

            return restored.Sequences;
        }
        catch
        {
            restore.Abandon();
            throw;
        }
    }

    private void Copy(CacheCapture capture, CancellationToken cancel)
    {
        for (int first = 0; first < _content.Pages;)
        {
            cancel.ThrowIfCancellationRequested();
            int end = End(first, MostBytesAtOnce);
            byte[] part = GC.AllocateUninitializedArray<byte>(Enumerable.Range(first, end - first).Sum(_content.BytesOf));
            capture.Read(first, part);
            _parts.Add(part);
            first = end;
        }
    }

    // One page at least, then as many as the bytes hold.
    private int End(int first, int bytes)
    {
        int end = first;
        do
        {
            bytes -= _content.BytesOf(end++);
        }
        while (end < _content.Pages && bytes >= _content.BytesOf(end));

        return end;
    }
}
