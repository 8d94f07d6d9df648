namespace KvCacheGpu.Evaluation;

/// <summary>The results of one cache on synthetic attention, means over seeds.</summary>
/// <param name="Setting">The cache.</param>
/// <param name="OutputError">|output - exact| / |exact| of the decoded tokens, all heads together.</param>
/// <param name="MassRecall">Share of the exact attention to tokens that are still there.</param>
/// <param name="Ratio">The most bytes that were allocated after any step, divided by those of a dense F16 cache.</param>
/// <param name="EvictedTokens">Number of dropped tokens, mean over heads.</param>
/// <param name="Refused">The reason why the cache could not be made or filled; null if it could.</param>
public sealed record SyntheticRow(
    EvalSetting Setting, double OutputError, double MassRecall, double Ratio, double EvictedTokens, string? Refused = null);

/// <summary>
/// Measures caches without a model, in seconds: attention over <see cref="SyntheticAttention"/>, read in steps and then written token by token,
/// against exact attention over all tokens.
/// </summary>
public static class SyntheticRun
{
    /// <summary>Number of tokens of a sequence.</summary>
    public const int Tokens = 1_536;

    /// <summary>Number of its last tokens, which are written one by one and measured.</summary>
    public const int Written = 96;

    /// <summary>Runs every setting over every seed.</summary>
    /// <param name="settings">The caches.</param>
    /// <param name="seeds">Number of sequences of each.</param>
    /// <param name="device">The id of the caches' device.</param>
    /// <param name="firstSeed">The first of the seeds; the others follow it. The default value is 0.</param>
    /// <param name="family">The attention. The default value is <see cref="SyntheticFamily.Mixed"/>.</param>
    public static IReadOnlyList<SyntheticRow> Run(
        IReadOnlyList<EvalSetting> settings, int seeds, string device, int firstSeed = 0, SyntheticFamily family = SyntheticFamily.Mixed)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentOutOfRangeException.ThrowIfLessThan(seeds, 1);
        ExactAttention[] sequences = [.. Enumerable.Range(firstSeed, seeds).Select(seed => new ExactAttention(new SyntheticAttention(Tokens, seed, family)))];
        return [.. settings.Select(setting => Measure(setting, sequences, device))];
    }

    private static SyntheticRow Measure(EvalSetting setting, ExactAttention[] sequences, string device)
    {
        try
        {
            SyntheticRow[] rows = [.. sequences.Select(exact => Measure(setting, exact, device))];
            return new SyntheticRow(
                setting, rows.Average(r => r.OutputError), rows.Average(r => r.MassRecall), rows.Average(r => r.Ratio), rows.Average(r => r.EvictedTokens));
        }
        catch (Exception e) when (e is KvConfigurationException or KvOutOfMemoryException)
        {
            return new SyntheticRow(setting, 0, 0, 0, 0, e.Message);
        }
    }

    private static SyntheticRow Measure(EvalSetting setting, ExactAttention exact, string device)
    {
        KvGeometry g = SyntheticAttention.Geometry;
        int written = 0;
        using KvCache cache = new(g, EvalCaches.Config(setting, g, Tokens, device, (row, page) => exact.Future.After(written, row, page)));
        using KvSequence sequence = cache.CreateSequence();
        (double error, double whole, double held) = (0, 0, 0);
        long most = cache.AllocatedBytes;
        for (int at = 0; at < Tokens;)
        {
            int count = at < Tokens - Written ? Math.Min(EvalScale.StepTokens, Tokens - Written - at) : 1;
            float[] output = new float[count * g.QueryHeads * g.ValueWidth];
            using (KvStep step = sequence.Begin(new int[count]))
            {
                step.Append(0, Slice(exact.Source.Keys, at, count, g.KvHeads), Slice(exact.Source.Values, at, count, g.KvHeads));
                step.Attend(0, Slice(exact.Source.Queries, at, count, g.QueryHeads), output);
                step.Commit();
            }

            most = Math.Max(most, cache.AllocatedBytes);
            if (at >= Tokens - Written)
            {
                written++;
                held += exact.MassOf(sequence, at);
                ReadOnlySpan<float> right = exact.Output(at);
                for (int i = 0; i < right.Length; i++)
                {
                    error += Math.Pow(output[i] - right[i], 2);
                    whole += Math.Pow(right[i], 2);
                }
            }

            at += count;
        }

        return new SyntheticRow(
            setting, Math.Sqrt(error / whole), held / Written, (double)most / g.DenseF16Bytes(Tokens), sequence.EvictedTokens);
    }

    private static ReadOnlySpan<float> Slice(float[] values, int at, int count, int heads)
    {
        int width = heads * SyntheticAttention.Geometry.KeyWidth;
        return values.AsSpan(at * width, count * width);
    }
}
