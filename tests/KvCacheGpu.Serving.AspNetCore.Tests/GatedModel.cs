namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>A model whose steps a test can slow down or hold.</summary>
internal sealed class GatedModel(IKvModel inner) : IKvModel, IDisposable
{
    private readonly ManualResetEventSlim _gate = new(initialState: true);
    private volatile bool _isInside;

    /// <summary>True while a step is under way, or held.</summary>
    public bool IsInside => _isInside;

    public TimeSpan Delay { get; set; }

    public int VocabularySize => inner.VocabularySize;

    public int MaxStepTokens => inner.MaxStepTokens;

    public int MaxContextTokens => inner.MaxContextTokens;

    public IReadOnlyCollection<int> EndTokens => inner.EndTokens;

    public void Close() => _gate.Reset();

    public void Open()
    {
        Delay = TimeSpan.Zero;
        _gate.Set();
    }

    public void Dispose() => _gate.Dispose();

    public void Forward(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<int> logitTokens, Span<float> logits)
    {
        _isInside = true;
        _gate.Wait();
        Thread.Sleep(Delay);
        inner.Forward(sequences, tokenIds, tokensPerSequence, logitTokens, logits);
        _isInside = false;
    }
}
