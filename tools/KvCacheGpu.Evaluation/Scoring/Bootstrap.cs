namespace KvCacheGpu.Evaluation;

/// <summary>A mean and its 95 % interval.</summary>
/// <param name="Mean">The mean.</param>
/// <param name="Low">The lower end of the 95 % interval.</param>
/// <param name="High">The upper end.</param>
public readonly record struct Interval(double Mean, double Low, double High);

/// <summary>Percentile bootstrap of a mean (Efron 1979).</summary>
public static class Bootstrap
{
    private const int Resamples = 2_000;
    private const double Tail = .025;

    /// <summary>The mean of values and its 95 % interval. The same seed gives the same interval.</summary>
    /// <param name="values">Independent values, at least one: one per seed, because answers about the same document are not independent.</param>
    /// <param name="seed">Seed of the resampling. The default value is 0.</param>
    public static Interval Mean(ReadOnlySpan<double> values, int seed = 0)
    {
        ArgumentOutOfRangeException.ThrowIfZero(values.Length, nameof(values));
        Random random = new(seed);
        double[] means = new double[Resamples];
        for (int i = 0; i < Resamples; i++)
        {
            double sum = 0;
            for (int j = 0; j < values.Length; j++)
            {
                sum += values[random.Next(values.Length)];
            }

            means[i] = sum / values.Length;
        }

        Array.Sort(means);
        double mean = 0;
        foreach (double value in values)
        {
            mean += value / values.Length;
        }

        return new Interval(mean, means[(int)(Tail * Resamples)], means[(int)((1 - Tail) * Resamples) - 1]);
    }
}
