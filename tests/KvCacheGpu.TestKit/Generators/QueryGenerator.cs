namespace KvCacheGpu.TestKit;

/// <summary>Queries that look for certain keys, with which the error bounds are measured.</summary>
public static class QueryGenerator
{
    private const double Sink = 8.5;
    private const int Recent = 128;

    /// <summary>
    /// N(0, I), plus 1..6 targets whose logits rise by 6..9 along the key less the mean of all keys (three in ten among the last 128
    /// tokens), plus 8.5 for token 0.
    /// </summary>
    public static float[][] Targeted(float[][] keys, int count, Gaussian gaussian)
    {
        int width = keys[0].Length;
        double[] mean = [.. Enumerable.Range(0, width).Select(e => keys.Average(k => (double)k[e]))];
        var queries = new float[count][];
        for (int i = 0; i < count; i++)
        {
            double[] query = [.. Enumerable.Range(0, width).Select(_ => gaussian.Next())];
            Aim(query, keys[0], mean, Sink);
            int targets = 1 + gaussian.Below(6);
            for (int n = 0; n < targets; n++)
            {
                int target = gaussian.Below(10) < 3 ? keys.Length - 1 - gaussian.Below(Recent) : gaussian.Below(keys.Length);
                Aim(query, keys[target], mean, 6 + (3 * gaussian.Below(1000) / 1000.0));
            }

            queries[i] = [.. query.Select(x => (float)x)];
        }

        return queries;
    }

    // Adds the shortest vector that raises q.(key - mean) / sqrt(width) by the logit.
    private static void Aim(double[] query, float[] key, double[] mean, double logit)
    {
        double[] direction = [.. key.Zip(mean, (k, m) => k - m)];
        double gain = logit * Math.Sqrt(key.Length) / direction.Sum(x => x * x);
        for (int e = 0; e < query.Length; e++)
        {
            query[e] += gain * direction[e];
        }
    }
}
