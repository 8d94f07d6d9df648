namespace KvCacheGpu.TestKit;

/// <summary>The kind of keys of a <see cref="SequenceData"/>.</summary>
public enum KeyKind
{
    /// <summary>G: AR(1) along tokens, then RoPE.</summary>
    Plain,

    /// <summary>O: four channels carry a bias and a wider spread, as trained keys do.</summary>
    Outliers,

    /// <summary>OT: O with each token's keys scaled by exp(.4 N).</summary>
    OutliersOfVaryingScale,
}

/// <summary>Keys and values like those of trained models: never zero, and never independent from token to token.</summary>
public static class KeyGenerator
{
    private const double Correlation = 0.7;
    private const double RopeBase = 1e4;

    // The outliers of generator O, placed for a width of 128 and moved in proportion for others.
    private static readonly (int Channel, double Bias)[] Outliers = [(58, 12), (119, -10), (60, 8), (5, 8)];

    /// <summary>Keys of one head: float[tokens][width].</summary>
    public static float[][] Keys(int tokens, int width, KeyKind kind, Gaussian gaussian)
    {
        var bias = new double[width];
        foreach ((int channel, double value) in kind == KeyKind.Plain ? [] : Outliers)
        {
            bias[channel * width / 128] = value;
        }

        var z = new double[width];
        var keys = new float[tokens][];
        for (int t = 0; t < tokens; t++)
        {
            var key = new double[width];
            for (int e = 0; e < width; e++)
            {
                double fresh = gaussian.Next();
                z[e] = t == 0 ? fresh : (Correlation * z[e]) + (Math.Sqrt(1 - (Correlation * Correlation)) * fresh);
                key[e] = bias[e] + ((bias[e] == 0 ? 1 : 1.5) * z[e]);
            }

            double tau = kind == KeyKind.OutliersOfVaryingScale ? Math.Exp(0.4 * gaussian.Next()) : 1;
            keys[t] = Rope(key, t, tau);
        }

        return keys;
    }

    /// <summary>Values of one head: exp(.3 N) * N, the sink's shrunk to a twentieth.</summary>
    public static float[][] Values(int tokens, int width, Gaussian gaussian)
    {
        var values = new float[tokens][];
        for (int t = 0; t < tokens; t++)
        {
            double size = Math.Exp(0.3 * gaussian.Next()) * (t == 0 ? 0.05 : 1);
            values[t] = [.. Enumerable.Range(0, width).Select(_ => (float)(size * gaussian.Next()))];
        }

        return values;
    }

    /// <summary>A query at <paramref name="position"/>: N(0, I) plus a key among those before it, so that its logit rises by 6 to 9.</summary>
    public static float[] Query(float[][] keys, int position, Gaussian gaussian)
    {
        float[] target = keys[gaussian.Below(position + 1)];
        double square = target.Sum(x => (double)x * x);
        double gain = (6 + (3 * gaussian.Below(1000) / 1000.0)) * Math.Sqrt(target.Length) / square;
        return [.. target.Select(x => (float)(gaussian.Next() + (gain * x)))];
    }

    // Half-split: element i is rotated with element i + width / 2.
    private static float[] Rope(double[] x, int position, double gain)
    {
        int half = x.Length / 2;
        var turned = new float[x.Length];
        for (int i = 0; i < half; i++)
        {
            (double sin, double cos) = Math.SinCos(position * Math.Pow(RopeBase, -2.0 * i / x.Length));
            turned[i] = (float)(gain * ((x[i] * cos) - (x[i + half] * sin)));
            turned[i + half] = (float)(gain * ((x[i] * sin) + (x[i + half] * cos)));
        }

        return turned;
    }
}
