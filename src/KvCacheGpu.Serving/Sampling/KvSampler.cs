namespace KvCacheGpu.Serving;

/// <summary>Chooses the tokens of one answer. It knows the prompt and what it has chosen, for the penalties.</summary>
/// <remarks>Thread safety: one thread at a time.</remarks>
public sealed class KvSampler
{
    private readonly KvSampling _options;
    private readonly Random _random;
    private readonly HashSet<int> _prompt = [];
    private readonly Dictionary<int, int> _answer = [];
    private float[] _logits = [];
    private Candidate[] _candidates = [];

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">Settings; null takes the most likely token, always.</param>
    /// <exception cref="ArgumentOutOfRangeException">A setting is out of its range.</exception>
    /// <param name="prompt">The prompt's tokens, which <see cref="KvSampling.RepetitionPenalty"/> counts.</param>
    public KvSampler(KvSampling? options = null, ReadOnlySpan<int> prompt = default)
    {
        _options = options ?? KvSampling.Greedy;
        _options.ThrowIfInvalid(int.MaxValue);
        _random = new Random(_options.Seed ?? Random.Shared.Next());
        if (_options.RepetitionPenalty != 1)
        {
            foreach (int token in prompt)
            {
                _prompt.Add(token);
            }
        }
    }

    /// <summary>The token of the largest logit; of several equal ones the lowest id.</summary>
    /// <param name="logits">Logits <c>[vocabulary]</c>, at least one.</param>
    public static int Greedy(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
        {
            if (logits[i] > logits[best])
            {
                best = i;
            }
        }

        return best;
    }

    /// <summary>Chooses the next token, and counts it as part of the answer.</summary>
    /// <param name="logits">Logits <c>[vocabulary]</c>, at least one; they stay as they are.</param>
    /// <exception cref="ArgumentException">No logits.</exception>
    public int Next(ReadOnlySpan<float> logits)
    {
        if (logits.IsEmpty)
        {
            throw new ArgumentException("expected at least one logit, got none", nameof(logits));
        }

        ReadOnlySpan<float> changed = _options.LeavesLogits ? logits : Penalized(logits);
        int token = _options.Temperature == 0 ? Greedy(changed) : Draw(changed);
        if (_options.RepetitionPenalty != 1 || _options.PresencePenalty != 0 || _options.FrequencyPenalty != 0)
        {
            _answer[token] = _answer.GetValueOrDefault(token) + 1;
        }

        return token;
    }

    private ReadOnlySpan<float> Penalized(ReadOnlySpan<float> logits)
    {
        if (_logits.Length < logits.Length)
        {
            _logits = new float[logits.Length];
        }

        Span<float> changed = _logits.AsSpan(0, logits.Length);
        logits.CopyTo(changed);
        foreach ((int token, float bias) in _options.LogitBias ?? new Dictionary<int, float>())
        {
            changed[token] += bias;
        }

        if (_options.RepetitionPenalty != 1)
        {
            foreach (int token in _prompt.Union(_answer.Keys))
            {
                float logit = changed[token];
                changed[token] = (float)(logit > 0 ? logit / _options.RepetitionPenalty : logit * _options.RepetitionPenalty);
            }
        }

        foreach ((int token, int count) in _answer)
        {
            changed[token] -= (float)(_options.PresencePenalty + (count * _options.FrequencyPenalty));
        }

        return changed;
    }

    private int Draw(ReadOnlySpan<float> logits)
    {
        float largest = logits[Greedy(logits)];
        if (_options.TopK == 0 && _options.TopP == 1)
        {
            return DrawUnsorted(logits, largest);
        }

        if (_candidates.Length < logits.Length)
        {
            _candidates = new Candidate[logits.Length];
        }

        Span<Candidate> all = _candidates.AsSpan(0, logits.Length);
        for (int token = 0; token < logits.Length; token++)
        {
            all[token] = new Candidate(token, Math.Exp((logits[token] - largest) / _options.Temperature));
        }

        all.Sort(static (a, b) => a.Weight != b.Weight ? b.Weight.CompareTo(a.Weight) : a.Token.CompareTo(b.Token));
        all = _options.TopK > 0 ? all[..Math.Min(_options.TopK, all.Length)] : all;
        all = all[..Nucleus(all)];
        int last = all.Length;
        while (all[last - 1].Weight < _options.MinP * all[0].Weight)
        {
            last--;
        }

        all = all[..last];
        double left = _random.NextDouble() * Sum(all);
        foreach (Candidate candidate in all)
        {
            left -= candidate.Weight;
            if (left < 0)
            {
                return candidate.Token;
            }
        }

        return all[0].Token;
    }

    private int DrawUnsorted(ReadOnlySpan<float> logits, float largest)
    {
        // Weights are relative to the most likely token's, which is 1.
        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Weight(logit);
        }

        double left = _random.NextDouble() * sum;
        for (int token = 0; token < logits.Length; token++)
        {
            left -= Weight(logits[token]);
            if (left < 0)
            {
                return token;
            }
        }

        return Greedy(logits);

        double Weight(float logit)
        {
            double weight = Math.Exp((logit - largest) / _options.Temperature);
            return weight < _options.MinP ? 0 : weight;
        }
    }

    private int Nucleus(ReadOnlySpan<Candidate> sorted)
    {
        double wanted = _options.TopP * Sum(sorted);
        double sum = 0;
        for (int count = 0; count < sorted.Length; count++)
        {
            sum += sorted[count].Weight;
            if (sum >= wanted)
            {
                return count + 1;
            }
        }

        return sorted.Length;
    }

    private static double Sum(ReadOnlySpan<Candidate> candidates)
    {
        double sum = 0;
        foreach (Candidate candidate in candidates)
        {
            sum += candidate.Weight;
        }

        return sum;
    }

    private readonly record struct Candidate(int Token, double Weight);
}
