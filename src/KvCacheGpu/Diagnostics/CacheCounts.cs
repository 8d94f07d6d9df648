namespace KvCacheGpu;

/// <summary>
/// What one cache counts for its instruments and for nothing else, and the tags of all that it reports. Changed and read inside of the pool's gate where not said otherwise: counting costs a step no more than the
/// additions.
/// </summary>
/// <param name="name">The cache's name, or null.</param>
internal sealed class CacheCounts(string? name)
{
    private readonly long[] _refusals = new long[Enum.GetValues<KvResource>().Length];
    private long _evictedPages;

    /// <summary>The cache's name, or null.</summary>
    public string? Name => name;

    /// <summary>Tags of everything that the cache reports: its name, where it has one.</summary>
    public KeyValuePair<string, object?>[] Own { get; } = name is null ? [] : [Tags.Of(Tags.Cache, name)];

    /// <summary>Steps committed.</summary>
    public long Steps { get; private set; }

    /// <summary>Tokens that they appended.</summary>
    public long Appended { get; private set; }

    /// <summary>Tokens that sequences began with.</summary>
    public long Reused { get; private set; }

    /// <summary>Look-ups that found a prefix.</summary>
    public long Hits { get; private set; }

    /// <summary>Look-ups that found none.</summary>
    public long Misses { get; private set; }

    /// <summary>Look-ups that found one for which there was no room.</summary>
    public long LookupsRefused { get; private set; }

    /// <summary>Pages of single rows that a policy dropped and that are lost. Any thread.</summary>
    public long EvictedPages => Interlocked.Read(ref _evictedPages);

    /// <summary>Pages of single rows that were written anew with fewer bits.</summary>
    public long DemotedPages { get; private set; }

    /// <summary>Counts a step that was committed.</summary>
    public void CountStep(int tokens) => (Steps, Appended) = (Steps + 1, Appended + tokens);

    /// <summary>Counts a look-up of a prefix.</summary>
    /// <param name="tokens">Tokens that the sequence began with.</param>
    /// <param name="hadRoom">False if there was no room for what was found.</param>
    public void CountLookup(int tokens, bool hadRoom)
    {
        Reused += tokens;
        LookupsRefused += hadRoom ? 0 : 1;
        Hits += tokens > 0 ? 1 : 0;
        Misses += tokens == 0 && hadRoom ? 1 : 0;
    }

    /// <summary>Counts pages that were dropped. Any thread.</summary>
    public void CountEvicted(long pages) => Interlocked.Add(ref _evictedPages, pages);

    /// <summary>Counts a page that was demoted.</summary>
    public void CountDemoted() => DemotedPages++;

    /// <summary>Calls that were refused for a resource. Any thread.</summary>
    public long RefusalsOf(KvResource resource) => Interlocked.Read(ref _refusals[(int)resource]);

    /// <summary>Counts a call that is refused, and tells who listens. Any thread.</summary>
    public void CountRefusal(in KvShortage shortage)
    {
        Interlocked.Increment(ref _refusals[(int)shortage.Resource]);
        CacheEvents.Log.NoteRefusal(name, shortage);
    }

    /// <summary>Counts a call that is refused, and makes its error.</summary>
    /// <param name="shortage">What is missing.</param>
    /// <param name="inner">The error that it follows from, or null.</param>
    public KvOutOfMemoryException Refuse(in KvShortage shortage, Exception? inner = null)
    {
        CountRefusal(shortage);
        return new KvOutOfMemoryException(shortage, inner);
    }
}
