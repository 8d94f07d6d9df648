using KvCacheGpu.Kernels;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama;

/// <summary>
/// The forward pass of a <see cref="LlamaModel"/>, in which all attention goes through a cache. It owns its working memory: a forward
/// pass allocates nothing. Thread safety: one thread at a time.
/// </summary>
public sealed unsafe class LlamaDecoder : IKvModel, IDisposable
{
    private const int ScoredTokens = 64;

    private readonly DecoderBuffers _buffers;
    private readonly MatrixProduct _product;
    private readonly TokenWork _tokens;
    private readonly int[] _rows;
    private float[] _scores = [];
    private bool _disposed;

    /// <summary>Makes a decoder, and allocates its working memory.</summary>
    /// <param name="model">The model, which must outlive the decoder.</param>
    /// <param name="maxBatchTokens">The most tokens of one forward pass. The default value is 512.</param>
    /// <param name="level">The vectors with which linear layers compute. The default value is the widest that this processor accelerates.</param>
    public LlamaDecoder(LlamaModel model, int maxBatchTokens = 512, SimdLevel level = SimdLevel.Auto)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxBatchTokens, 1);
        (Model, MaxBatchTokens) = (model, maxBatchTokens);
        _buffers = new DecoderBuffers(model, maxBatchTokens);
        _product = new MatrixProduct(level);
        _tokens = new TokenWork(_buffers, model.Config);
        _rows = new int[maxBatchTokens];
    }

    /// <summary>The model.</summary>
    public LlamaModel Model { get; }

    /// <summary>The most tokens of one forward pass.</summary>
    public int MaxBatchTokens { get; }

    /// <inheritdoc/>
    public int VocabularySize => Config.VocabularySize;

    /// <inheritdoc/>
    int IKvModel.MaxStepTokens => MaxBatchTokens;

    /// <inheritdoc/>
    int IKvModel.MaxContextTokens => Config.MaxPositions;

    /// <inheritdoc/>
    IReadOnlyCollection<int> IKvModel.EndTokens => Config.EosTokenIds;

    private LlamaConfig Config => Model.Config;

    /// <summary>Runs tokens at the end of a sequence, as one step, and commits it. If anything fails, the sequence stays as it was.</summary>
    /// <param name="sequence">The sequence; its cache has this model's geometry.</param>
    /// <param name="tokenIds">The tokens, 1 to <see cref="MaxBatchTokens"/>.</param>
    /// <param name="logits">Receives the last token's logits <c>[vocabulary]</c>, or those of all tokens <c>[tokens][vocabulary]</c>; empty for none.</param>
    /// <exception cref="ArgumentException">A token is not in the vocabulary, there are too many tokens, or the logits have another length.</exception>
    /// <exception cref="KvCacheException">The cache refuses the step.</exception>
    public void Forward(KvSequence sequence, ReadOnlySpan<int> tokenIds, Span<float> logits) => Forward([sequence], tokenIds, [tokenIds.Length], logits);

    /// <summary>Runs tokens at the ends of several sequences, as one step, and commits it.</summary>
    /// <param name="sequences">The sequences, of one cache, in the order of their tokens; each step may have others.</param>
    /// <param name="tokenIds">Their tokens, one sequence after the other, at most <see cref="MaxBatchTokens"/> in all.</param>
    /// <param name="tokensPerSequence">Number of tokens of each sequence, at least 1.</param>
    /// <param name="logits">Receives the logits of each sequence's last token <c>[sequences][vocabulary]</c>, or of all tokens; empty for none.</param>
    /// <exception cref="ArgumentException">A token is not in the vocabulary, the counts do not add up, or the logits have another length.</exception>
    /// <exception cref="KvCacheException">The cache refuses the step.</exception>
    public void Forward(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, Span<float> logits)
    {
        ThrowIfTooMany(tokenIds);
        int rows = 0;
        if (logits.Length == (long)tokenIds.Length * Config.VocabularySize)
        {
            for (; rows < tokenIds.Length; rows++)
            {
                _rows[rows] = rows;
            }
        }
        else if (!logits.IsEmpty)
        {
            int tokens = 0;
            for (; rows < Math.Min(tokensPerSequence.Length, _rows.Length); rows++)
            {
                tokens += tokensPerSequence[rows];
                _rows[rows] = tokens - 1;
            }
        }

        Forward(sequences, tokenIds, tokensPerSequence, _rows.AsSpan(0, rows), logits);
    }

    /// <summary>Runs tokens at the ends of several sequences, as one step, and commits it. If anything fails, the sequences stay as they were.</summary>
    /// <param name="sequences">The sequences, of one cache, in the order of their tokens; each step may have others.</param>
    /// <param name="tokenIds">Their tokens, one sequence after the other, at most <see cref="MaxBatchTokens"/> in all.</param>
    /// <param name="tokensPerSequence">Number of tokens of each sequence, at least 1.</param>
    /// <param name="logitTokens">Places in <paramref name="tokenIds"/>, ascending, whose logits are asked for; may be empty.</param>
    /// <param name="logits">Receives <c>[logitTokens][vocabulary]</c>.</param>
    /// <exception cref="ArgumentException">A token is not in the vocabulary, the counts do not add up, or the logits have another length.</exception>
    /// <exception cref="KvCacheException">The cache refuses the step.</exception>
    public void Forward(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<int> logitTokens, Span<float> logits)
    {
        if (sequences.IsEmpty)
        {
            throw new ArgumentException("expected at least 1 sequence, got 0", nameof(sequences));
        }

        ArgumentNullException.ThrowIfNull(sequences[0], nameof(sequences));
        KvCache cache = sequences[0].Cache;
        CheckTokens(cache, tokenIds);
        CheckLogits(logits, tokenIds.Length, logitTokens);
        using KvStep step = cache.Begin(sequences, tokenIds, tokensPerSequence);
        int token = 0;
        for (int s = 0; s < tokensPerSequence.Length; s++)
        {
            int start = sequences[s].Length;
            for (int i = 0; i < tokensPerSequence[s]; i++)
            {
                _tokens.SetPosition(token++, start + i);
            }
        }

        RunLayers(step, tokenIds);
        WriteLogits(logitTokens, logits);
        step.Commit();
    }

    /// <summary>Reads a prompt of any length, in steps of as many tokens as the decoder and the cache take.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokenIds">The prompt, at least one token.</param>
    /// <param name="logits">Receives the last token's logits <c>[vocabulary]</c>; empty for none.</param>
    /// <param name="progress">Receives the number of tokens read, after each step.</param>
    /// <param name="cancellationToken">Is checked before each step; committed steps stay.</param>
    public void Prefill(
        KvSequence sequence, ReadOnlySpan<int> tokenIds, Span<float> logits, IProgress<int>? progress = null, CancellationToken cancellationToken = default)
    {
        int chunk = StepTokens(sequence);
        if (!logits.IsEmpty && logits.Length != Config.VocabularySize)
        {
            throw new ArgumentException($"expected room for 0 or {Config.VocabularySize} logits, got {logits.Length}", nameof(logits));
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
    /// <remarks>The model reads a token when the next one is asked for, so the last token that was yielded is not in the cache.</remarks>
    /// <param name="sequence">The sequence, empty or not.</param>
    /// <param name="prompt">Tokens to read first, at least one.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="cancellationToken">Is checked before each step.</param>
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

        return Continue(sequence, [.. prompt], options, new KvSampler(options.Sampling), cancellationToken);
    }

    /// <summary>
    /// Reads tokens and adds up how well the model predicted them: the natural logarithms of the probabilities of
    /// <c>tokenIds[1..]</c>, each given all tokens before it. Perplexity is <c>exp(-sum / (tokens - 1))</c>.
    /// </summary>
    /// <param name="sequence">The sequence; the tokens are appended to it.</param>
    /// <param name="tokenIds">The tokens, at least two.</param>
    /// <param name="progress">Receives the number of tokens read, after each step.</param>
    /// <param name="cancellationToken">Is checked before each step.</param>
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

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _buffers.Dispose();
    }

    private void RunLayers(KvStep step, ReadOnlySpan<int> tokenIds)
    {
        int tokens = tokenIds.Length;
        for (int t = 0; t < tokens; t++)
        {
            Model.Embedding.ReadRow(tokenIds[t], new Span<float>(_buffers.Residual + ((nint)t * _buffers.Hidden), _buffers.Hidden));
        }

        ReadOnlySpan<LlamaLayer> layers = Model.Layers;
        for (int layer = 0; layer < layers.Length; layer++)
        {
            LlamaLayer weights = layers[layer];
            _tokens.Normalize(weights.AttentionNorm, addDelta: layer > 0, tokens);
            _product.Multiply(weights.QueryKeyValue, _buffers.Normed, _buffers.Hidden, _buffers.Qkv, _buffers.QkvStride, tokens);
            _tokens.Turn(weights, tokens);
            step.Append(layer, Heads(Config.QueryHeads, Config.KvHeads, tokens), Heads(Config.QueryHeads + Config.KvHeads, Config.KvHeads, tokens));
            Span<float> attended = new(_buffers.Attended, tokens * _buffers.AttendedStride);
            step.Attend(layer, Heads(0, Config.QueryHeads, tokens), attended, window: Config.Windows[layer]);
            _product.Multiply(weights.Output, _buffers.Attended, _buffers.AttendedStride, _buffers.Delta, _buffers.DeltaStride, tokens);
            _tokens.Normalize(weights.FeedForwardNorm, addDelta: true, tokens);
            _product.Multiply(weights.GateUp, _buffers.Normed, _buffers.Hidden, _buffers.Gate, _buffers.GateStride, tokens);
            _tokens.Gate(tokens);
            _product.Multiply(weights.Down, _buffers.Gate, _buffers.GateStride, _buffers.Delta, _buffers.DeltaStride, tokens);
        }

        _tokens.Normalize(Model.Norm, addDelta: true, tokens);
    }

    // Some heads of the fused rows, in place: the strides skip the other heads.
    private KvTensor Heads(int first, int count, int tokens)
    {
        int width = Config.HeadWidth;
        ReadOnlySpan<float> elements = new(_buffers.Qkv + (first * width), ((tokens - 1) * _buffers.QkvStride) + (count * width));
        return KvTensor.FromHost(elements, _buffers.QkvStride, width);
    }

    private void WriteLogits(ReadOnlySpan<int> rows, Span<float> logits)
    {
        // Rows that are wanted move to the front, since the stream itself is no longer needed.
        for (int i = 0; i < rows.Length; i++)
        {
            if (rows[i] != i)
            {
                new Span<float>(Row(rows[i]), _buffers.Hidden).CopyTo(new Span<float>(Row(i), _buffers.Hidden));
            }
        }

        for (int first = 0; first < rows.Length; first += DecoderBuffers.LogitTokens)
        {
            int count = Math.Min(DecoderBuffers.LogitTokens, rows.Length - first);
            _product.Multiply(Model.Head, Row(first), _buffers.Hidden, _buffers.Logits, _buffers.LogitStride, count);
            for (int t = 0; t < count; t++)
            {
                new Span<float>(_buffers.Logits + ((nint)t * _buffers.LogitStride), Config.VocabularySize)
                    .CopyTo(logits.Slice((first + t) * Config.VocabularySize, Config.VocabularySize));
            }
        }
    }

    private float* Row(int token) => _buffers.Normed + ((nint)token * _buffers.Hidden);

    private void CheckTokens(KvCache cache, ReadOnlySpan<int> tokenIds)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        KvGeometry geometry = cache.Geometry;
        if (geometry.Layers != Config.Layers || geometry.QueryHeads != Config.QueryHeads || geometry.KvHeads != Config.KvHeads
            || geometry.KeyWidth != Config.HeadWidth || geometry.ValueWidth != Config.HeadWidth)
        {
            throw new ArgumentException(
                $"expected a cache of {Config.Layers} layers, {Config.QueryHeads} query heads, {Config.KvHeads} KV heads of width {Config.HeadWidth}, "
                + $"got {geometry.Layers}, {geometry.QueryHeads}, {geometry.KvHeads} of {geometry.KeyWidth} and {geometry.ValueWidth}");
        }

        ThrowIfTooMany(tokenIds);
        foreach (int id in tokenIds)
        {
            if ((uint)id >= (uint)Config.VocabularySize)
            {
                throw new ArgumentOutOfRangeException(nameof(tokenIds), id, $"expected tokens of 0..{Config.VocabularySize - 1}");
            }
        }
    }

    private void ThrowIfTooMany(ReadOnlySpan<int> tokenIds)
    {
        if (tokenIds.IsEmpty || tokenIds.Length > MaxBatchTokens)
        {
            throw new ArgumentException($"expected 1..{MaxBatchTokens} tokens in a forward pass, got {tokenIds.Length}", nameof(tokenIds));
        }
    }

    private void CheckLogits(Span<float> logits, int tokens, ReadOnlySpan<int> rows)
    {
        if (logits.Length != (long)rows.Length * Config.VocabularySize)
        {
            throw new ArgumentException($"expected room for {rows.Length} times {Config.VocabularySize} logits, got {logits.Length}", nameof(logits));
        }

        int last = -1;
        foreach (int row in rows)
        {
            if (row <= last || row >= tokens)
            {
                throw new ArgumentException($"expected ascending places of {tokens} tokens, got {row} after {last}", nameof(rows));
            }

            last = row;
        }
    }

    private static double LogProbability(ReadOnlySpan<float> logits, int token)
    {
        float largest = logits[KvSampler.Greedy(logits)];
        double sum = 0;
        foreach (float logit in logits)
        {
            sum += MathF.Exp(logit - largest);
        }

        return logits[token] - largest - Math.Log(sum);
    }

    private IEnumerable<int> Continue(KvSequence sequence, int[] prompt, GenerateOptions options, KvSampler sampler, CancellationToken cancellationToken)
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
