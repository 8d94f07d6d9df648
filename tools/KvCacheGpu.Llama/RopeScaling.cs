namespace KvCacheGpu.Llama;

/// <summary>How a checkpoint stretches its rotary frequencies beyond the trained context.</summary>
/// <param name="Kind"><c>default</c>, <c>linear</c> or <c>llama3</c>, as the checkpoint names it.</param>
/// <param name="Factor">By what positions (linear) or low frequencies (llama3) are divided.</param>
/// <param name="LowFrequencyFactor">llama3: wavelengths beyond <paramref name="OriginalContext"/> / this are divided whole.</param>
/// <param name="HighFrequencyFactor">llama3: wavelengths below <paramref name="OriginalContext"/> / this stay.</param>
/// <param name="OriginalContext">llama3: the context that was trained first, tokens.</param>
public sealed record RopeScaling(string Kind, double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalContext)
{
    /// <summary>No stretching.</summary>
    public static RopeScaling None { get; } = new("default", 1, 0, 0, 0);

    /// <summary>The rotation per position of each pair (i, i + width/2), in radians.</summary>
    public double[] Frequencies(double theta, int width)
    {
        double[] frequencies = new double[width / 2];
        for (int i = 0; i < frequencies.Length; i++)
        {
            frequencies[i] = Stretch(Math.Pow(theta, -2.0 * i / width));
        }

        return frequencies;
    }

    internal static RopeScaling Read(JsonFile scaling)
    {
        string kind = scaling.Text("rope_type") ?? scaling.Text("type") ?? "none";
        switch (kind)
        {
            case "default":
                return None;
            case "linear":
                return new RopeScaling(kind, scaling.Positive("factor"), 0, 0, 0);
            case "llama3":
                if (scaling.Positive("high_freq_factor") <= scaling.Positive("low_freq_factor"))
                {
                    LlamaFormatException.ThrowCorrupt(
                        scaling.Name, "high_freq_factor", "more than low_freq_factor", $"{scaling.Positive("high_freq_factor")}");
                }

                return new RopeScaling(
                    kind,
                    scaling.Positive("factor"),
                    scaling.Positive("low_freq_factor"),
                    scaling.Positive("high_freq_factor"),
                    scaling.Int("original_max_position_embeddings", 1, int.MaxValue));
            default:
                LlamaFormatException.ThrowUnsupported(scaling.Name, "rope_scaling", "default, linear or llama3", kind);
                return None;
        }
    }

    private double Stretch(double frequency)
    {
        if (Kind != "llama3")
        {
            return frequency / Factor;
        }

        // Between the two wavelengths the division fades in linearly in turns per trained context (Llama 3.1).
        double turns = OriginalContext * frequency / (2 * Math.PI);
        double keep = Math.Clamp((turns - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor), 0, 1);
        return (keep * frequency) + ((1 - keep) * frequency / Factor);
    }
}
