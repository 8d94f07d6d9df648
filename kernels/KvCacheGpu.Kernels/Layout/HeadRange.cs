namespace KvCacheGpu.Kernels;

/// <summary>
/// The KV heads that one cache holds, out of the model's: all of them, or a tensor-parallel shard's.
/// </summary>
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
