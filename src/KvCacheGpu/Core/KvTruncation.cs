namespace KvCacheGpu;

/// <summary>The result of a truncation.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Length">
/// Tokens now in the sequence: what was asked, or less where that would end inside a page that a policy dropped; then it
/// ends at that page's start.
/// </param>
/// <param name="ReencodedPages">
/// Pages over all layers and heads whose tokens will be encoded a second time when the sequence has grown again: 0 for a rollback of up to
/// <see cref="KvCacheOptions.ExactRollbackTokens"/>, and for sealed formats in full precision.
/// </param>
public readonly record struct KvTruncation(int Length, int ReencodedPages);
