namespace KvCacheGpu;

/// <summary>Bytes of a cache, known before it is made.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="ReservedBytes">The arena: <see cref="KvCache.ReservedBytes"/>.</param>
/// <param name="CreatedBytes">In use when the cache was just made: tables, bookkeeping, a step's working memory.</param>
/// <param name="BudgetBytes">Bytes that it may come to: the budget, or without one the bytes that <see cref="KvCacheOptions.MaxTokens"/> take.</param>
/// <param name="MinimumBytes">The least budget that such a cache can be made with.</param>
public readonly record struct KvCacheBytes(long ReservedBytes, long CreatedBytes, long BudgetBytes, long MinimumBytes);
