namespace KvCacheGpu;

/// <summary>Live pages of a cache; a page that several sequences share counts once, and so does one that only stays for prefix reuse.</summary>
/// <param name="Open">Pages in full precision that may still be written.</param>
/// <param name="Sealed">Pages that never change again.</param>
public readonly record struct KvPageCounts(int Open, int Sealed);
