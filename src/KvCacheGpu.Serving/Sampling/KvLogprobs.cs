namespace KvCacheGpu.Serving;

/// <summary>How likely a token was. Thread safety: it never changes.</summary>
/// <param name="Token">The token.</param>
/// <param name="Logprob">The natural logarithm of its probability, by the model's logits as they are: before penalties, temperature and cuts.</param>
public readonly record struct KvTokenLogprob(int Token, double Logprob);

/// <summary>How likely a chosen token was, and the most likely ones in its place. Thread safety: it never changes.</summary>
/// <param name="Chosen">The token that was chosen.</param>
/// <param name="Top">The most likely tokens, the most likely first; as many as were asked for.</param>
public sealed record KvLogprobs(KvTokenLogprob Chosen, IReadOnlyList<KvTokenLogprob> Top)
{
    internal static KvLogprobs Of(ReadOnlySpan<float> logits, int chosen, int top)
    {
        float largest = float.NegativeInfinity;
        foreach (float logit in logits)
        {
            largest = Math.Max(largest, logit);
        }

        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Math.Exp(logit - largest);
        }

        double norm = largest + Math.Log(sum);
        KvTokenLogprob[] best = new KvTokenLogprob[Math.Min(top, logits.Length)];
        int held = 0;
        for (int token = 0; token < logits.Length && best.Length > 0; token++)
        {
            if (held == best.Length && logits[token] - norm <= best[^1].Logprob)
            {
                continue;
            }

            int place = held < best.Length ? held++ : best.Length - 1;
            for (; place > 0 && best[place - 1].Logprob < logits[token] - norm; place--)
            {
                best[place] = best[place - 1];
            }

            best[place] = new KvTokenLogprob(token, logits[token] - norm);
        }

        return new KvLogprobs(new KvTokenLogprob(chosen, logits[chosen] - norm), best);
    }
}
