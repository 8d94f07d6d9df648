namespace KvCacheGpu;

/// <summary>Sequences that step together, one launch per layer.</summary>
public sealed class KvBatch : IDisposable
{
    /// <summary>The sequences, in the order of their tokens.</summary>
    public IReadOnlyList<KvSequence> Sequences => throw new NotImplementedException();

    /// <summary>Whether Begin would succeed.</summary>
    public bool CanAppend(ReadOnlySpan<int> tokensPerSequence) => throw new NotImplementedException();

    /// <summary>Begins a step.</summary>
    public KvStep Begin(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence) => throw new NotImplementedException();

    /// <summary>Begins a step where there is room.</summary>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out KvStep? step) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
