using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>How well one token was foreseen, and how near that was to what the full cache would have said.</summary>
/// <param name="Right">True if it was the likeliest.</param>
/// <param name="Nll">-ln of its probability.</param>
/// <param name="FullNll">The same through the full cache.</param>
/// <param name="Kl">Kullback-Leibler divergence of the full cache's distribution from this one, in nats.</param>
/// <param name="Agrees">True if the likeliest token is the full cache's.</param>
public readonly record struct TokenScore(bool Right, double Nll, double FullNll, double Kl, bool Agrees)
{
    /// <summary>Scores logits.</summary>
    /// <param name="logits">What the cache under test led to, <c>[vocabulary]</c>.</param>
    /// <param name="full">What the full cache led to.</param>
    /// <param name="token">The token that comes next.</param>
    public static TokenScore Of(ReadOnlySpan<float> logits, ReadOnlySpan<float> full, int token)
    {
        if (logits.Length != full.Length)
        {
            throw new ArgumentException($"expected {full.Length} logits, as the full cache gave, got {logits.Length}", nameof(logits));
        }

        (double norm, double fullNorm) = (LogSumExp(logits), LogSumExp(full));
        double kl = 0;
        for (int i = 0; i < logits.Length; i++)
        {
            double logFull = full[i] - fullNorm;
            kl += Math.Exp(logFull) * (logFull - (logits[i] - norm));
        }

        int best = Sampler.Greedy(logits);
        return new TokenScore(best == token, norm - logits[token], fullNorm - full[token], Math.Max(0, kl), best == Sampler.Greedy(full));
    }

    private static double LogSumExp(ReadOnlySpan<float> logits)
    {
        double largest = logits[Sampler.Greedy(logits)];
        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Math.Exp(logit - largest);
        }

        return largest + Math.Log(sum);
    }
}
