namespace KvCacheGpu;

/// <summary>
/// Bytes that a sequence takes beside those of the empty cache (<see cref="KvCacheBytes.CreatedBytes"/>), known before it is made: of one that shares no
/// pages, and of which no page was demoted, merged or evicted.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Pages">Its pages between steps, the last ones open.</param>
/// <param name="MostPages">
/// The most that its pages take while it grows to its tokens one by one: a step that seals pages holds what they were and what they become for a moment.
/// </param>
/// <param name="Tables">Its page tables.</param>
/// <param name="Bookkeeping">Token ids, and what else the host keeps of it.</param>
/// <param name="HostTables">The host's copy of its page tables where pages lie on a device; the device "cpu" has none.</param>
public readonly record struct KvSequenceBytes(long Pages, long MostPages, long Tables, long Bookkeeping, long HostTables)
{
    /// <summary>Counts the bytes of a sequence. Asks no device.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="options">Options of its cache; null takes the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">Tokens below 0, or more than such a cache takes in one sequence.</exception>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range or does not fit the geometry.</exception>
    public static KvSequenceBytes For(KvGeometry geometry, int tokens, KvCacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        options ??= new KvCacheOptions();
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, options.LongestSequence);
        return CacheCreation.SequenceBytesFor(geometry, options, tokens);
    }
}
