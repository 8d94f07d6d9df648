namespace KvCacheGpu;

/// <summary>
/// How a model turns queries and keys by their positions: the pairs (i, i + w/2) of the first w elements, by position * frequency (RoPE,
/// half-split). Caches keep keys as they come, turned already; policies that foresee queries need to know.
/// </summary>
/// <remarks>
/// Source: RoFormer (Su et al. 2021); linear stretching (Chen et al. 2023), or Llama 3.1's, which fades it in from short wavelengths to long ones
/// where <see cref="OriginalContext"/> is set.
/// Thread safety: it never changes.
/// </remarks>
public sealed record KvRope
{
    /// <summary>Base of the frequencies, theta^(-2i/w), above 0. The default value is 10000.</summary>
    public double Theta { get; init => field = Positive(value); } = 10_000;

    /// <summary>Elements that turn, w: even, at most the key width. The default value is 0: all.</summary>
    public int Width
    {
        get;
        init => field = value >= 0 && value % 2 == 0 ? value : throw new ArgumentOutOfRangeException(nameof(Width), value, "expected an even width");
    }

    /// <summary>Divisor of the positions (linear) or of the low frequencies (Llama 3.1), above 0. The default value is 1.</summary>
    public double Factor { get; init => field = Positive(value); } = 1;

    /// <summary>Llama 3.1: wavelengths beyond <see cref="OriginalContext"/> / this are divided whole.</summary>
    public double LowFrequencyFactor { get; init; } = 1;

    /// <summary>Llama 3.1: wavelengths below <see cref="OriginalContext"/> / this stay; above <see cref="LowFrequencyFactor"/>.</summary>
    public double HighFrequencyFactor { get; init; } = 4;

    /// <summary>Llama 3.1: the context that was trained first, tokens. The default value is 0: linear.</summary>
    public int OriginalContext { get; init; }

    /// <summary>The rotation per position of each pair (i, i + w/2), in radians: w/2 of them.</summary>
    /// <param name="keyWidth">Elements of a key.</param>
    public double[] Frequencies(int keyWidth)
    {
        int width = Width == 0 ? keyWidth : Width;
        double[] frequencies = new double[width / 2];
        for (int i = 0; i < frequencies.Length; i++)
        {
            frequencies[i] = Stretch(Math.Pow(Theta, -2.0 * i / width));
        }

        return frequencies;
    }

    /// <summary>Refuses a rotation that does not fit keys of this width.</summary>
    internal void ThrowIfNotFor(int keyWidth)
    {
        if (Width > keyWidth || (Width == 0 && keyWidth % 2 != 0))
        {
            throw new ArgumentException($"expected an even number of elements to turn, at most the {keyWidth} of a key, got {(Width == 0 ? keyWidth : Width)}");
        }

        if (OriginalContext < 0 || (OriginalContext > 0 && !(LowFrequencyFactor > 0 && HighFrequencyFactor > LowFrequencyFactor)))
        {
            throw new ArgumentException(
                $"expected 0 < {nameof(LowFrequencyFactor)} < {nameof(HighFrequencyFactor)}, got {LowFrequencyFactor} and {HighFrequencyFactor}");
        }
    }

    private static double Positive(double value) =>
        double.IsFinite(value) && value > 0 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "expected a number above 0");

    private double Stretch(double frequency)
    {
        if (OriginalContext == 0)
        {
            return frequency / Factor;
        }

        // Between the two wavelengths the division fades in linearly in turns per trained context.
        double turns = OriginalContext * frequency / (2 * Math.PI);
        double keep = Math.Clamp((turns - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor), 0, 1);
        return (keep * frequency) + ((1 - keep) * frequency / Factor);
    }
}
