namespace KvCacheGpu;

/// <summary>What a cache takes, known before it is made.</summary>
/// <param name="ReservedBytes">The arena: <see cref="KvCache.ReservedBytes"/>.</param>
/// <param name="CreatedBytes">In use when the cache was just made: tables, bookkeeping, a step's working memory.</param>
/// <param name="BudgetBytes">What it may come to: the budget, or without one what <see cref="KvCacheOptions.MaxTokens"/> take.</param>
/// <param name="MinimumBytes">The least budget that such a cache can be made with.</param>
public readonly record struct KvCacheBytes(long ReservedBytes, long CreatedBytes, long BudgetBytes, long MinimumBytes);
