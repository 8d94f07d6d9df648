namespace KvCacheGpu;

/// <summary>The shape of an engine that is made without a geometry: one layer.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvModelOptions
{
    /// <summary>KV heads, at least 1 (<c>num_heads</c>). The default value is 8.</summary>
    public int NumHeads { get; set; } = 8;

    /// <summary>Elements of one head's key and value, 8..576 (<c>head_dim</c>). The default value is 64.</summary>
    public int HeadDim { get; set; } = 64;

    /// <summary>Tokens in a page, a power of two of 16..256 (<c>block_size</c>). The default value is 64.</summary>
    public int BlockSize { get; set; } = 64;
}
