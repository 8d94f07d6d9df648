namespace KvCacheGpu.Llama;

/// <summary>Chooses the next token from logits. With a temperature of 0 the choice depends on the logits alone; otherwise on the seed too.</summary>
public sealed class Sampler
{
    private readonly double _temperature;
    private readonly Random _random;

    /// <summary>Makes a sampler.</summary>
    /// <param name="temperature">0 takes the largest logit; above 0, a token is drawn from the softmax of logits / temperature.</param>
    /// <param name="seed">The same seed draws the same tokens.</param>
    /// <exception cref="ArgumentOutOfRangeException">The temperature is negative or not finite.</exception>
    public Sampler(double temperature = 0, int seed = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(temperature);
        if (!double.IsFinite(temperature))
        {
            throw new ArgumentOutOfRangeException(nameof(temperature), temperature, "expected a finite temperature");
        }

        _temperature = temperature;
        _random = new Random(seed);
    }

    /// <summary>The token of the largest logit; of several equal ones the lowest id.</summary>
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

    /// <summary>Chooses the next token.</summary>
    /// <param name="logits">Logits <c>[vocabulary]</c>, at least one.</param>
    public int Next(ReadOnlySpan<float> logits)
    {
        if (logits.IsEmpty)
        {
            throw new ArgumentException("expected at least one logit, got none", nameof(logits));
        }

        int best = Greedy(logits);
        if (_temperature == 0)
        {
            return best;
        }

        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Math.Exp((logit - logits[best]) / _temperature);
        }

        double left = _random.NextDouble() * sum;
        for (int i = 0; i < logits.Length; i++)
        {
            left -= Math.Exp((logits[i] - logits[best]) / _temperature);
            if (left < 0)
            {
                return i;
            }
        }

        return best;
    }
}
