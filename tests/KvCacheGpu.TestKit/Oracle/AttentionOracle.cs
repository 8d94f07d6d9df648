namespace KvCacheGpu.TestKit;

/// <summary>A resident page and where it stands in its sequence.</summary>
public readonly record struct PlacedPage(int PageIndex, DecodedPage Page);

/// <summary>What a kernel leaves of one page for one query: its largest logit, and the sum of exp(logit - largest).</summary>
public readonly record struct PageStatistic(double Largest, double Sum);

/// <summary>Attention of one query: output, log-sum-exp, and a statistic for each page.</summary>
public sealed record QueryAttention(double[] Output, double LogSumExp, PageStatistic[] Pages);

/// <summary>Causal attention over decoded pages in double: the definition, without a thought of speed.</summary>
public static class AttentionOracle
{
    /// <summary>One query at <paramref name="position"/> over the resident pages of its row; with a window, over its last so many positions.</summary>
    public static QueryAttention Attend(
        ReadOnlySpan<float> query, int position, IReadOnlyList<PlacedPage> pages, int pageTokens, int valueWidth, int window = 0)
    {
        double scale = 1 / Math.Sqrt(query.Length);
        var logits = new List<(int Token, double Logit)>[pages.Count];
        double largest = double.NegativeInfinity;
        for (int p = 0; p < pages.Count; p++)
        {
            logits[p] = [];
            for (int t = 0; t < pageTokens; t++)
            {
                int distance = position - (pages[p].PageIndex * pageTokens) - t;
                if (distance < 0 || (window > 0 && distance >= window))
                {
                    continue;
                }

                double logit = scale * Dot(query, pages[p].Page.Keys[t]);
                logits[p].Add((t, logit));
                largest = Math.Max(largest, logit);
            }
        }

        double total = logits.Sum(page => page.Sum(l => Math.Exp(l.Logit - largest)));
        var output = new double[valueWidth];
        for (int p = 0; p < pages.Count; p++)
        {
            foreach ((int t, double logit) in logits[p])
            {
                double weight = Math.Exp(logit - largest) / total;
                double[] value = pages[p].Page.Values[t];
                for (int e = 0; e < valueWidth; e++)
                {
                    output[e] += weight * value[e];
                }
            }
        }

        return new QueryAttention(output, largest + Math.Log(total), [.. logits.Select(Statistic)]);
    }

    private static PageStatistic Statistic(List<(int Token, double Logit)> logits)
    {
        double largest = logits.Select(l => l.Logit).DefaultIfEmpty(double.NegativeInfinity).Max();
        return new PageStatistic(largest, logits.Sum(l => Math.Exp(l.Logit - largest)));
    }

    private static double Dot(ReadOnlySpan<float> query, double[] key)
    {
        double sum = 0;
        for (int i = 0; i < query.Length; i++)
        {
            sum += query[i] * key[i];
        }

        return sum;
    }
}
