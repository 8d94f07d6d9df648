namespace KvCacheGpu;

/// <summary>
/// E005: the disk refused: full, failing, not permitted. What was stored before is as it was, unless <see cref="OutcomeUnknown"/>.
/// </summary>
public sealed class KvPersistenceException : KvCacheException
{
    internal KvPersistenceException(string what, string expected, string actual, Exception? inner = null, bool outcomeUnknown = false)
        : base("E005", what, expected, actual, inner) => OutcomeUnknown = outcomeUnknown;

    /// <summary>
    /// Whether the very last sync failed: readers see the change now, a power loss may take it back. Old or new exactly, nothing between.
    /// </summary>
    public bool OutcomeUnknown { get; }
}
