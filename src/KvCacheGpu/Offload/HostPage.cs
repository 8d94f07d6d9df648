namespace KvCacheGpu;

/// <summary>A sealed page in host memory, bit for bit. Forks share it.</summary>
/// <param name="page">Page index.</param>
/// <param name="pageClass">Its class.</param>
/// <param name="encodings">How often its keys and values were encoded with loss.</param>
/// <param name="place">Where it lies.</param>
internal sealed class HostPage(int page, int pageClass, Encodings encodings, PagePlace place)
{
    private int _references = 1;

    /// <summary>Page index.</summary>
    public int Page => page;

    /// <summary>Its class.</summary>
    public int Class => pageClass;

    /// <summary>How often its keys and values were encoded with loss.</summary>
    public Encodings Encodings => encodings;

    /// <summary>Where it lies.</summary>
    public PagePlace Place => place;

    /// <summary>The page as it lies in its slot.</summary>
    public ReadOnlySpan<int> Words => place.Words;

    /// <summary>Its place in the stage that it was copied to last.</summary>
    public int Staged { get; set; } = -1;

    /// <summary>One more has it: a sequence, or a snapshot that reads it. Callers are inside of the pool's gate.</summary>
    public void Share() => _references++;

    /// <summary>One less has it; the last gives its place back. Callers are inside of the pool's gate.</summary>
    public void Leave(HostRoom room)
    {
        if (--_references == 0)
        {
            room.Give(place, pageClass);
        }
    }
}
