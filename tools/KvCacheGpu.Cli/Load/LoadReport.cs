namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache bench serve --json</c>.</summary>
/// <param name="Url">The server.</param>
/// <param name="Model">The model that was asked.</param>
/// <param name="Mix">The mix.</param>
/// <param name="Clients">Conversations at once; null with a rate.</param>
/// <param name="Rate">Conversations begun each second; null in a closed loop.</param>
/// <param name="Requests">Requests that were measured.</param>
/// <param name="Seconds">Seconds from the first to the end of the last.</param>
/// <param name="Errors">Requests without a whole answer, by why.</param>
/// <param name="PromptTokens">Tokens of prompts.</param>
/// <param name="CachedTokens">Those of them that the server had.</param>
/// <param name="NewTokens">Tokens of answers.</param>
/// <param name="TokensPerSecond">Tokens of answers each second.</param>
/// <param name="DeadlineSeconds">The deadline.</param>
/// <param name="Goodput">Whole answers within the deadline each second.</param>
/// <param name="FirstToken">Seconds from when a request should have been sent to the first piece of its answer.</param>
/// <param name="NextToken">Seconds from one piece of an answer to its next.</param>
/// <param name="Answer">Seconds to whole answers.</param>
internal sealed record LoadReport(
    string Url,
    string Model,
    string Mix,
    int? Clients,
    double? Rate,
    int Requests,
    double Seconds,
    IReadOnlyDictionary<string, int> Errors,
    long PromptTokens,
    long CachedTokens,
    long NewTokens,
    double TokensPerSecond,
    double DeadlineSeconds,
    double Goodput,
    LoadPercentiles FirstToken,
    LoadPercentiles NextToken,
    LoadPercentiles Answer)
{
    /// <summary>Sums samples up.</summary>
    public static LoadReport Of(string url, string model, string mix, LoadSettings settings, IReadOnlyList<LoadSample> samples, double seconds)
    {
        LoadSample[] whole = [.. samples.Where(sample => sample.Error is null)];
        long tokens = whole.Sum(sample => (long)sample.NewTokens);
        return new LoadReport(
            url,
            model,
            mix,
            settings.Rate is null ? settings.Clients : null,
            settings.Rate,
            samples.Count,
            seconds,
            samples.Where(sample => sample.Error is not null).GroupBy(sample => sample.Error!).OrderBy(group => group.Key, StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.Count()),
            whole.Sum(sample => (long)sample.PromptTokens),
            whole.Sum(sample => (long)sample.CachedTokens),
            tokens,
            tokens / seconds,
            settings.Deadline.TotalSeconds,
            whole.Count(sample => sample.Total <= settings.Deadline) / seconds,
            LoadPercentiles.Of(whole.Where(sample => sample.FirstToken is not null).Select(sample => sample.FirstToken!.Value.TotalSeconds)),
            LoadPercentiles.Of(whole.SelectMany(sample => sample.Gaps)),
            LoadPercentiles.Of(whole.Select(sample => sample.Total.TotalSeconds)));
    }
}

/// <summary>Percentiles of seconds; zeros without any.</summary>
/// <param name="P50">Half took at most this long.</param>
/// <param name="P90">90 of 100 took at most this long.</param>
/// <param name="P95">95 of 100 took at most this long.</param>
/// <param name="P99">99 of 100 took at most this long.</param>
/// <param name="Most">The longest.</param>
internal sealed record LoadPercentiles(double P50, double P90, double P95, double P99, double Most)
{
    /// <summary>Takes the nearest ranks.</summary>
    public static LoadPercentiles Of(IEnumerable<double> seconds)
    {
        double[] sorted = [.. seconds.Order()];
        return new LoadPercentiles(At(.5), At(.9), At(.95), At(.99), At(1));

        double At(double part) => sorted.Length == 0 ? 0 : sorted[Math.Clamp((int)Math.Ceiling(part * sorted.Length) - 1, 0, sorted.Length - 1)];
    }
}
