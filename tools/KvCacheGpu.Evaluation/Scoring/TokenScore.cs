using KvCacheGpu.Serving;

namespace KvCacheGpu.Evaluation;

/// <summary>The quality of the prediction of one token, and its distance from the prediction with the full cache.</summary>
/// <param name="Right">True if the token was the most likely one.</param>
/// <param name="Nll">-ln of its probability.</param>
/// <param name="FullNll">-ln of its probability with the full cache.</param>
/// <param name="Kl">Kullback-Leibler divergence of the full cache's distribution from this one, in nats.</param>
/// <param name="Agrees">True if the most likely token is that of the full cache.</param>
public readonly record struct TokenScore(bool Right, double Nll, double FullNll, double Kl, bool Agrees)
{
    /// <summary>Scores logits.</summary>
    /// <param name="logits">Logits with the cache under test, <c>[vocabulary]</c>.</param>
    /// <param name="full">Logits with the full cache, <c>[vocabulary]</c>.</param>
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

        int best = KvSampler.Greedy(logits);
        return new TokenScore(best == token, norm - logits[token], fullNorm - full[token], Math.Max(0, kl), best == KvSampler.Greedy(full));
    }

    private static double LogSumExp(ReadOnlySpan<float> logits)
    {
        double largest = logits[KvSampler.Greedy(logits)];
        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Math.Exp(logit - largest);
        }

        return largest + Math.Log(sum);
    }
}
