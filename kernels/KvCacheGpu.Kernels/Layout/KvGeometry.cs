namespace KvCacheGpu;

/// <summary>
/// The KV heads that one cache holds, out of the model's: all of them, or a tensor-parallel shard's.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Start">First KV head, counted over the whole model.</param>
/// <param name="Count">Number of KV heads held here.</param>
public readonly record struct HeadRange(int Start, int Count)
{
    /// <summary>All <paramref name="count"/> heads of a model.</summary>
    public static implicit operator HeadRange(int count) => FromInt32(count);

    /// <summary>All <paramref name="count"/> heads of a model.</summary>
    public static HeadRange FromInt32(int count) => new(0, count);

    /// <summary>The range as "start..end", or the count where it starts at 0.</summary>
    public override string ToString() => Start == 0 ? $"{Count}" : $"{Start}..{Start + Count}";
}

/// <summary>The shape of a model's keys and values: it sets the sizes of all tensors, pages and tables.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KvGeometry
{
    /// <summary>The smallest head width that kernels take.</summary>
    public const int MinWidth = 8;

    /// <summary>The largest head width that kernels take (MLA's 512 + 64).</summary>
    public const int MaxWidth = 576;

    /// <summary>The largest page, in tokens.</summary>
    public const int MaxPageTokens = 1024;

    // Beyond these the kernels' factors would leave binary32. No model comes near them.
    private const float LeastScale = 1e-6f;
    private const float MostScale = 1e6f;
    private const float LeastCap = 1e-30f;
    private const float MostCap = 1e30f;

    /// <summary>Describes a model.</summary>
    /// <param name="layers">Attention layers, at least 1.</param>
    /// <param name="queryHeads">Query heads that attend to <paramref name="kvHeads"/>: a multiple of their count (GQA; equal is MHA; one KV head is MQA).</param>
    /// <param name="kvHeads">The KV heads held here.</param>
    /// <param name="keyWidth">Elements of one key vector, 8..576.</param>
    /// <param name="valueWidth">Elements of one value vector, 8..576; 0 takes <paramref name="keyWidth"/>.</param>
    /// <param name="pageTokens">Tokens in a page, 1..1024. The default value is 64.</param>
    /// <exception cref="ArgumentOutOfRangeException">A count or width is outside its range.</exception>
    public KvGeometry(int layers, int queryHeads, HeadRange kvHeads, int keyWidth, int valueWidth = 0, int pageTokens = 64)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(layers, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(kvHeads.Count, 1, nameof(kvHeads));
        ArgumentOutOfRangeException.ThrowIfNegative(kvHeads.Start, nameof(kvHeads));
        ArgumentOutOfRangeException.ThrowIfLessThan(queryHeads, kvHeads.Count);
        if (queryHeads % kvHeads.Count != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(queryHeads), queryHeads, $"expected a multiple of the {kvHeads.Count} KV heads");
        }

        valueWidth = valueWidth == 0 ? keyWidth : valueWidth;
        ThrowIfNotAWidth(keyWidth, nameof(keyWidth));
        ThrowIfNotAWidth(valueWidth, nameof(valueWidth));
        ArgumentOutOfRangeException.ThrowIfLessThan(pageTokens, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(pageTokens, MaxPageTokens);
        (Layers, QueryHeads, Heads, KeyWidth, ValueWidth, PageTokens) = (layers, queryHeads, kvHeads, keyWidth, valueWidth, pageTokens);
        AttentionScale = 1f / MathF.Sqrt(keyWidth);
    }

    /// <summary>Attention layers.</summary>
    public int Layers { get; }

    /// <summary>Query heads attending to <see cref="Heads"/>.</summary>
    public int QueryHeads { get; }

    /// <summary>The KV heads held here.</summary>
    public HeadRange Heads { get; }

    /// <summary>Number of KV heads held here.</summary>
    public int KvHeads => Heads.Count;

    /// <summary>Query heads that share one KV head.</summary>
    public int GroupSize => QueryHeads / KvHeads;

    /// <summary>Elements of one key (and query) vector.</summary>
    public int KeyWidth { get; }

    /// <summary>Elements of one value (and output) vector.</summary>
    public int ValueWidth { get; }

    /// <summary>Tokens in a page.</summary>
    public int PageTokens { get; }

    /// <summary>
    /// How queries and keys were turned by their positions, for policies that foresee queries (<c>KvStatistics.FutureQueries</c>). The default value is null: not at
    /// all, or not told.
    /// </summary>
    /// <remarks>The cache turns nothing by it: a host ropes keys before it appends them, and queries before it attends with them.</remarks>
    /// <exception cref="ArgumentException">It turns more elements than a key has, or an odd key, or its stretch contradicts itself.</exception>
    public KvRope? Rope
    {
        get;
        init
        {
            value?.ThrowIfNotFor(KeyWidth);
            field = value;
        }
    }

    /// <summary>
    /// The factor of every product of a query and a key: a logit is q.k * AttentionScale. The default value is 1/sqrt(<see cref="KeyWidth"/>).
    /// Gemma 2 has 1/sqrt(query_pre_attn_scalar), Granite its attention_multiplier, T5 has 1.
    /// </summary>
    /// <remarks>It is no part of what is stored: a cache of another scale restores the same snapshots.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">It is not a number of 1e-6..1e6.</exception>
    public float AttentionScale
    {
        get;
        init => field = Within(value, LeastScale, MostScale, nameof(AttentionScale));
    }

    /// <summary>
    /// Bounds every logit: it becomes c * tanh(logit / c), where c is this number, before causality and windows hide tokens. The default value is null:
    /// logits stay as they are. Gemma 2 has 50 (attn_logit_softcapping).
    /// </summary>
    /// <remarks>It is no part of what is stored: a cache of another cap, or without one, restores the same snapshots.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">It is not a number of 1e-30..1e30.</exception>
    public float? LogitSoftCap
    {
        get;
        init => field = value is { } cap ? Within(cap, LeastCap, MostCap, nameof(LogitSoftCap)) : null;
    }

    /// <summary>The logit of a query and a key: their product times <see cref="AttentionScale"/>, under <see cref="LogitSoftCap"/>.</summary>
    /// <param name="product">q.k.</param>
    public double LogitOf(double product) => Capped(product * AttentionScale);

    /// <summary>A logit under <see cref="LogitSoftCap"/>.</summary>
    internal double Capped(double logit) => LogitSoftCap is { } cap ? cap * Math.Tanh(logit / cap) : logit;

    /// <summary>Bytes that a dense F16 cache of <paramref name="tokens"/> tokens takes: percentages and ratios refer to it.</summary>
    public long DenseF16Bytes(long tokens) => checked(tokens * Layers * KvHeads * (KeyWidth + ValueWidth) * 2);

    /// <summary>Pages that <paramref name="tokens"/> tokens touch, counted from position 0.</summary>
    public int PagesFor(int tokens) => (int)(((long)tokens + PageTokens - 1) / PageTokens);

    private static float Within(float value, float least, float most, string name) => value >= least && value <= most
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"expected a number of {least}..{most}");

    private static void ThrowIfNotAWidth(int width, string name)
    {
        if (width is < MinWidth or > MaxWidth)
        {
            throw new ArgumentOutOfRangeException(name, width, $"expected a head width of {MinWidth}..{MaxWidth}");
        }
    }
}
