namespace KvCacheGpu.TestKit;

/// <summary>A resident page and its index in the sequence.</summary>
public readonly record struct PlacedPage(int PageIndex, DecodedPage Page);

/// <summary>The statistics of one page for one query: its largest logit, and the sum of exp(logit - largest).</summary>
public readonly record struct PageStatistic(double Largest, double Sum);

/// <summary>Attention of one query: output, log-sum-exp, and a statistic for each page.</summary>
/// <param name="Output">The weighted mean of the values.</param>
/// <param name="LogSumExp">ln of the sum of exp(logit).</param>
/// <param name="Pages">The statistics of the pages.</param>
/// <param name="LogitError">The error that a logit may have.</param>
/// <param name="Reach">The distance by which such errors may move the output: 0 if one token has by far the largest logit.</param>
public sealed record QueryAttention(double[] Output, double LogSumExp, PageStatistic[] Pages, double LogitError = 0, double Reach = 0);

/// <summary>Causal attention over decoded pages in double: the definition, without regard to speed.</summary>
public static class AttentionOracle
{
    // Relative error of a capped logit in binary32.
    private const double CapError = 5e-7;

    /// <summary>
    /// Attends one query at <paramref name="position"/> to the resident pages of its row; with a window, to that many last positions. Logits may
    /// have an error of <paramref name="logitError"/> times |q| |k| * scale before they are capped, where k is the longest key.
    /// </summary>
    public static QueryAttention Attend(
        ReadOnlySpan<float> query, int position, IReadOnlyList<PlacedPage> pages, KvGeometry geometry, int window = 0, double logitError = 0)
    {
        (int pageTokens, int valueWidth, double scale) = (geometry.PageTokens, geometry.ValueWidth, geometry.AttentionScale);
        double longest = logitError == 0 ? 0 : pages.Max(p => p.Page.Keys.Max(Norm));
        double before = logitError == 0 ? 0 : logitError * scale * Norm(query.ToArray().Select(x => (double)x)) * longest;
        double error = geometry.LogitSoftCap is null ? before : 0;
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

                double raw = scale * Dot(query, pages[p].Page.Keys[t]);
                double logit = Capped(raw, geometry.LogitSoftCap);
                if (geometry.LogitSoftCap is not null && logitError > 0)
                {
                    // What the error before the cap leaves of it, and the rounding of the cap itself.
                    double away = Capped(raw + before, geometry.LogitSoftCap) - Capped(raw - before, geometry.LogitSoftCap);
                    error = Math.Max(error, away + (CapError * Math.Abs(logit)));
                }

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

        double reach = error == 0 ? 0 : (from p in Enumerable.Range(0, pages.Count)
                                         from l in logits[p]
                                         let power = l.Logit - largest - Math.Log(total)
                                         let distance = Norm(pages[p].Page.Values[l.Token].Zip(output, (v, o) => v - o))
                                         select Math.Min(1, Math.Exp(power + (2 * error)) - Math.Exp(power)) * distance).Sum();
        return new QueryAttention(output, largest + Math.Log(total), [.. logits.Select(Statistic)], error, reach);
    }

    /// <summary>A logit as attention sees it: cap * tanh(logit / cap), or itself where there is no cap.</summary>
    public static double Capped(double logit, double? cap) => cap is { } most ? most * Math.Tanh(logit / most) : logit;

    private static double Norm(IEnumerable<double> vector) => Math.Sqrt(vector.Sum(x => x * x));

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
