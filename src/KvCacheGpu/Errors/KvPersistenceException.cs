namespace KvCacheGpu;

/// <summary>
/// E005: the disk refused: full, failing, not permitted. What was stored before is as it was, unless <see cref="OutcomeUnknown"/>.
/// </summary>
public sealed class KvPersistenceException : KvCacheException
{
    internal KvPersistenceException(string what, string expected, string actual, Exception? inner = null, bool outcomeUnknown = false)
        : base("E005", what, expected, actual, inner) => OutcomeUnknown = outcomeUnknown;

    /// <summary>
    /// Whether it is not known what will be found: the very last sync failed, so that readers see the change now and a power loss may take it back, or the
    /// one step that makes the change reported an error and nothing could be read about it. Old or new exactly, nothing between.
    /// </summary>
    public bool OutcomeUnknown { get; }
}
