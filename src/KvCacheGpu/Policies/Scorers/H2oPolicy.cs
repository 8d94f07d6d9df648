namespace KvCacheGpu;

/// <summary>Keeps the heavy hitters: the pages of most accumulated attention, where older attention counts less and less.</summary>
/// <remarks>
/// Source: H2O (Zhang et al. 2023), with a decay and a grace for new tokens. Without them new tokens would go at once, and old ones never.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class H2oPolicy : RankedPolicy
{
    private readonly float _decay;

    /// <summary>Sets how fast attention fades.</summary>
    /// <param name="decay">Factor by which a step multiplies the attention before it, above 0 and at most 1 (as in the paper). The default value is 0.98.</param>
    /// <param name="graceTokens">Number of newest tokens whose pages go last, 0 or more. The default value is 16.</param>
    public H2oPolicy(float decay = 0.98f, int graceTokens = 16)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(decay);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(decay, 1f);
        ArgumentOutOfRangeException.ThrowIfNegative(graceTokens);
        (_decay, GraceTokens) = (decay, graceTokens);
    }

    /// <summary>Number of newest tokens whose pages go last.</summary>
    public int GraceTokens { get; }

    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <inheritdoc/>
    public override float Decay => _decay;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.Mass, pages.Count, "h2o");
        long grace = (long)pages.Length - GraceTokens;
        for (int page = 0; page < pages.Count; page++)
        {
            bool isNew = pages.FirstPosition(page) + pages.Geometry.PageTokens > grace;
            scores[page] = isNew ? float.PositiveInfinity : pages.Mass[page];
        }
    }
}
