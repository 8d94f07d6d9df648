namespace KvCacheGpu.Llama;

public sealed partial class LlamaDecoder
{
    private const int ScoredTokens = 64;

    private float[] _scores = [];

    /// <summary>Reads a prompt of any length, in steps of as many tokens as decoder and cache take.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokenIds">The prompt, at least one token.</param>
    /// <param name="logits">Takes the last token's logits <c>[vocabulary]</c>; none where empty.</param>
    /// <param name="progress">Told of the tokens read, after each step.</param>
    /// <param name="cancellationToken">Looked at before each step; the steps before it stay.</param>
    public void Prefill(
        KvSequence sequence, ReadOnlySpan<int> tokenIds, Span<float> logits, IProgress<int>? progress = null, CancellationToken cancellationToken = default)
    {
        int chunk = StepTokens(sequence);
        if (!logits.IsEmpty)
        {
            CheckLogits(logits, 1, 1);
        }

        for (int first = 0; first == 0 || first < tokenIds.Length; first += chunk)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = Math.Min(chunk, tokenIds.Length - first);
            bool last = first + count == tokenIds.Length;
            Forward(sequence, tokenIds.Slice(first, count), last ? logits : default);
            progress?.Report(first + count);
        }
    }

    /// <summary>Continues a sequence: reads the prompt, then yields tokens as they are chosen.</summary>
    /// <remarks>A token is run through the model when the one after it is asked for: the last one yielded is not in the cache.</remarks>
    /// <param name="sequence">The sequence, empty or not.</param>
    /// <param name="prompt">Tokens to read first, at least one.</param>
    /// <param name="options">How; null takes the defaults.</param>
    /// <param name="cancellationToken">Looked at before each step.</param>
    public IEnumerable<int> Generate(
        KvSequence sequence, IReadOnlyList<int> prompt, GenerateOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(sequence);
        ArgumentNullException.ThrowIfNull(prompt);
        options ??= new GenerateOptions();
        ArgumentOutOfRangeException.ThrowIfNegative(options.MaxNewTokens, nameof(options));
        if (prompt.Count == 0)
        {
            throw new ArgumentException("expected at least one token, got none", nameof(prompt));
        }

        return Continue(sequence, [.. prompt], options, new Sampler(options.Temperature, options.Seed), cancellationToken);
    }

    /// <summary>
    /// Reads tokens and adds up how well the model foresaw them: the natural logarithms of the probabilities of
    /// <c>tokenIds[1..]</c>, each after all before it. Perplexity is <c>exp(-sum / (tokens - 1))</c>.
    /// </summary>
    /// <param name="sequence">The sequence; the tokens are appended to it.</param>
    /// <param name="tokenIds">The tokens, at least two.</param>
    /// <param name="progress">Told of the tokens read, after each step.</param>
    /// <param name="cancellationToken">Looked at before each step.</param>
    public double LogLikelihood(
        KvSequence sequence, ReadOnlySpan<int> tokenIds, IProgress<int>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(tokenIds.Length, 2, nameof(tokenIds));
        int vocabulary = Config.VocabularySize;
        int chunk = Math.Min(ScoredTokens, StepTokens(sequence));
        if (_scores.Length < chunk * vocabulary)
        {
            _scores = GC.AllocateUninitializedArray<float>(chunk * vocabulary);
        }

        double sum = 0;
        for (int first = 0; first < tokenIds.Length; first += chunk)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = Math.Min(chunk, tokenIds.Length - first);
            Span<float> logits = _scores.AsSpan(0, count * vocabulary);
            Forward(sequence, tokenIds.Slice(first, count), logits);
            for (int t = first; t < Math.Min(first + count, tokenIds.Length - 1); t++)
            {
                sum += LogProbability(logits.Slice((t - first) * vocabulary, vocabulary), tokenIds[t + 1]);
            }

            progress?.Report(first + count);
        }

        return sum;
    }

    private static double LogProbability(ReadOnlySpan<float> logits, int token)
    {
        float largest = logits[Sampler.Greedy(logits)];
        double sum = 0;
        foreach (float logit in logits)
        {
            sum += MathF.Exp(logit - largest);
        }

        return logits[token] - largest - Math.Log(sum);
    }

    private IEnumerable<int> Continue(KvSequence sequence, int[] prompt, GenerateOptions options, Sampler sampler, CancellationToken cancellationToken)
    {
        IReadOnlyCollection<int> stops = options.StopTokens ?? (IReadOnlyCollection<int>)Config.EosTokenIds;
        float[] logits = new float[Config.VocabularySize];
        Prefill(sequence, prompt, logits, options.PromptProgress, cancellationToken);
        int[] next = new int[1];
        for (int i = 0; i < options.MaxNewTokens; i++)
        {
            if (i > 0)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Forward(sequence, next, logits);
            }

            next[0] = sampler.Next(logits);
            yield return next[0];
            if (stops.Contains(next[0]))
            {
                yield break;
            }
        }
    }

    private int StepTokens(KvSequence sequence)
    {
        ArgumentNullException.ThrowIfNull(sequence);
        return Math.Min(MaxBatchTokens, sequence.Cache.Options.MaxBatchTokens);
    }
}
