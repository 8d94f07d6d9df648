namespace KvCacheGpu.Serving.Tests;

/// <summary>A toy model that often, not always, goes on as its text did nine tokens before, so that there is something to guess. What it says still hangs on the cache.</summary>
internal sealed class RepeatingModel(ToyModel inner) : IKvModel
{
    private const int Period = 9;

    public int VocabularySize => inner.VocabularySize;

    public int MaxStepTokens => inner.MaxStepTokens;

    public int MaxContextTokens => inner.MaxContextTokens;

    public IReadOnlyCollection<int> EndTokens => [];

    public void Forward(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<int> logitTokens, Span<float> logits)
    {
        int[] starts = new int[sequences.Length];
        List<int>[] texts = new List<int>[sequences.Length];
        for (int s = 0, first = 0; s < sequences.Length; first += tokensPerSequence[s++])
        {
            starts[s] = first;
            texts[s] = [.. sequences[s].TokenIds, .. tokenIds.Slice(first, tokensPerSequence[s])];
        }

        inner.Forward(sequences, tokenIds, tokensPerSequence, logitTokens, logits);
        for (int row = 0; row < logitTokens.Length; row++)
        {
            int place = logitTokens[row];
            int s = Array.FindLastIndex(starts, start => start <= place);
            int length = texts[s].Count - (tokensPerSequence[s] - 1 - (place - starts[s]));
            if (length >= Period && length % 5 != 0)
            {
                logits[(row * VocabularySize) + texts[s][length - Period]] += 50;
            }
        }
    }
}
