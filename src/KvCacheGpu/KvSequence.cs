namespace KvCacheGpu;

/// <summary>One sequence of tokens and its pages.</summary>
public sealed class KvSequence : IDisposable
{
    /// <summary>The cache it lives in.</summary>
    public KvCache Cache => throw new NotImplementedException();

    /// <summary>Tokens.</summary>
    public int Length => throw new NotImplementedException();

    /// <summary>Token ids.</summary>
    public ReadOnlySpan<int> TokenIds => throw new NotImplementedException();

    /// <summary>Mean of evicted tokens over layers and heads.</summary>
    public double EvictedTokens => throw new NotImplementedException();

    /// <summary>Bytes of its pages.</summary>
    public long AllocatedBytes => throw new NotImplementedException();

    /// <summary>Whether Begin would succeed.</summary>
    public bool CanAppend(int tokens) => throw new NotImplementedException();

    /// <summary>Begins a step.</summary>
    public KvStep Begin(ReadOnlySpan<int> tokenIds) => throw new NotImplementedException();

    /// <summary>Begins a step where there is room.</summary>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out KvStep? step) => throw new NotImplementedException();

    /// <summary>Shares all pages with a new sequence.</summary>
    public KvSequence Fork() => throw new NotImplementedException();

    /// <summary>Cuts to a length.</summary>
    public KvTruncation Truncate(int length) => throw new NotImplementedException();

    /// <summary>Decodes a layer's resident tokens <c>[tokens][KV heads][width]</c>.</summary>
    public int Materialize(int layer, Span<float> keys, Span<float> values) => throw new NotImplementedException();

    /// <summary>Decodes one head's resident tokens <c>[tokens][width]</c>.</summary>
    public int Materialize(int layer, int head, Span<float> keys, Span<float> values) => throw new NotImplementedException();

    /// <summary>Tokens resident.</summary>
    public int ResidentTokens(int layer, int head) => throw new NotImplementedException();

    /// <summary>Their positions.</summary>
    public int ResidentPositions(int layer, int head, Span<int> positions) => throw new NotImplementedException();

    /// <summary>Attention mass per resident page.</summary>
    public int PageMass(int layer, int queryHead, Span<float> mass) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
