namespace KvCacheGpu;

/// <summary>How long the blocks of a range of tokens are worth keeping once no sequence holds them.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="FirstToken">First position.</param>
/// <param name="EndToken">Position after the last; null for all that follow.</param>
/// <param name="Priority">0..100; lower priorities are evicted first. Blocks outside every range have 35.</param>
/// <param name="Duration">Time after which the priority returns to 35, counted from the release by the last holder, in whole milliseconds; null for never.</param>
public sealed record KvRetentionRange(int FirstToken, int? EndToken, int Priority, TimeSpan? Duration = null);

/// <summary>Ranges of tokens that do not overlap. A block belongs to the range that its first token is in.</summary>
internal sealed class RetentionMap
{
    private readonly KvRetentionRange[] _ranges;

    /// <exception cref="ArgumentException">A range is empty, its priority or duration out of range, or two overlap.</exception>
    public RetentionMap(IEnumerable<KvRetentionRange> ranges)
    {
        _ranges = [.. ranges.OrderBy(range => range.FirstToken)];
        for (int i = 0; i < _ranges.Length; i++)
        {
            (int first, int? end, int priority, TimeSpan? duration) = _ranges[i];
            Require(first >= 0 && (end is null || end > first), $"expected a range of at least 1 token from 0 on, got {first}..{end}");
            Require(priority is >= 0 and <= BlockIndex.HighestPriority, $"expected a priority of 0..{BlockIndex.HighestPriority}, got {priority}");
            Require(
                duration is null || duration.Value.TotalMilliseconds is >= 1 and <= int.MaxValue,
                $"expected a duration of 1..{int.MaxValue} ms, got {duration}");
            Require(
                i == 0 || _ranges[i - 1].EndToken <= first,
                $"expected ranges that do not overlap, got {first}..{end} after ..{(i == 0 ? null : _ranges[i - 1].EndToken)}");
        }
    }

    /// <summary>The range of a sequence's block, or null. Blocks are counted from 0.</summary>
    public KvRetentionRange? At(int block, int pageTokens)
    {
        long first = (long)block * pageTokens;
        foreach (KvRetentionRange range in _ranges)
        {
            if (range.FirstToken <= first && (range.EndToken is null || first < range.EndToken))
            {
                return range;
            }
        }

        return null;
    }

    private static void Require(bool holds, string message)
    {
        if (!holds)
        {
            throw new ArgumentException(message);
        }
    }
}
