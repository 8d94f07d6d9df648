using System.Diagnostics.Metrics;

namespace KvCacheGpu.Serving;

/// <summary>
/// What a scheduler has done, for its status and for the meter "KvCacheGpu.Serving". The loop's thread alone writes it.
/// </summary>
internal sealed class ServingCounts(TimeProvider clock)
{
    private const int Seconds = 10;

    private static readonly Meter Meter = new(KvServingDiagnostics.MeterName);
    private static readonly Counter<long> EndedRequests = Meter.CreateCounter<long>("kvcache.serving.requests", "{request}", "Requests that have ended, by how.");
    private static readonly Counter<long> Tokens = Meter.CreateCounter<long>("kvcache.serving.tokens", "{token}", "Tokens of prompts and answers, by kind.");
    private static readonly Counter<long> Preempted = Meter.CreateCounter<long>("kvcache.serving.preemptions", "{preemption}", "Answers that lost their places to others.");
    private static readonly Histogram<double> FirstToken = Meter.CreateHistogram<double>("kvcache.serving.first_token", "s", "Time from submission to the first token.");
    private static readonly Histogram<double> NextToken = Meter.CreateHistogram<double>("kvcache.serving.next_token", "s", "Time from one token of an answer to its next.");
    private static readonly Histogram<int> StepTokens = Meter.CreateHistogram<int>("kvcache.serving.step.tokens", "{token}", "Tokens of a step.");

    // Tokens in each of the last seconds, by the second.
    private readonly (long Second, long Tokens)[] _lately = new (long, long)[Seconds + 1];
    private readonly RecentTimes _first = new();
    private readonly RecentTimes _next = new();
    private readonly long _started = clock.GetTimestamp();
    private long _requests;
    private long _ended;
    private long _steps;
    private long _promptTokens;
    private long _reusedTokens;
    private long _newTokens;
    private long _preemptions;

    /// <summary>A request has come.</summary>
    public void Come() => _requests++;

    /// <summary>A request has ended.</summary>
    public void End(KvFinish finish)
    {
        _ended++;
        EndedRequests.Add(1, new KeyValuePair<string, object?>("finish", Name(finish)));
    }

    /// <summary>A step has been computed.</summary>
    /// <param name="prompt">Its tokens of prompts, and of answers that are computed again.</param>
    /// <param name="all">All its tokens.</param>
    public void Step(int prompt, int all)
    {
        _steps++;
        _promptTokens += prompt;
        Tokens.Add(prompt, new KeyValuePair<string, object?>("kind", "prompt"));
        StepTokens.Record(all);
    }

    /// <summary>Tokens of a prompt need not be computed.</summary>
    public void Reuse(int tokens)
    {
        _reusedTokens += tokens;
        Tokens.Add(tokens, new KeyValuePair<string, object?>("kind", "reused"));
    }

    /// <summary>An answer has lost its place.</summary>
    public void Preempt()
    {
        _preemptions++;
        Preempted.Add(1);
    }

    /// <summary>A token has been generated.</summary>
    /// <param name="seconds">Time since the answer's last one, or since submission.</param>
    /// <param name="isFirst">True if it is the request's first.</param>
    public void Token(double seconds, bool isFirst)
    {
        _newTokens++;
        (isFirst ? _first : _next).Add(seconds);
        (isFirst ? FirstToken : NextToken).Record(seconds);
        Tokens.Add(1, new KeyValuePair<string, object?>("kind", "answer"));
        long second = (long)clock.GetElapsedTime(_started).TotalSeconds;
        ref (long Second, long Tokens) place = ref _lately[second % _lately.Length];
        place = (second, place.Second == second ? place.Tokens + 1 : 1);
    }

    /// <summary>All of it.</summary>
    /// <param name="answers">Answers that run and wait.</param>
    public KvServingStatus Status(IReadOnlyList<KvAnswerStatus> answers) => new()
    {
        Answers = answers,
        Requests = _requests,
        Ended = _ended,
        Steps = _steps,
        PromptTokens = _promptTokens,
        ReusedTokens = _reusedTokens,
        NewTokens = _newTokens,
        Preemptions = _preemptions,
        TokensPerSecond = TokensPerSecond(),
        TimeToFirstToken = _first.Percentiles(),
        TimeBetweenTokens = _next.Percentiles(),
    };

    // The second that runs is not over, so that it is left out.
    private double TokensPerSecond()
    {
        double elapsed = clock.GetElapsedTime(_started).TotalSeconds;
        long now = (long)elapsed;
        long tokens = 0;
        foreach ((long second, long count) in _lately)
        {
            tokens += second < now && second >= now - Seconds ? count : 0;
        }

        return now == 0 ? 0 : tokens / (double)Math.Min(now, Seconds);
    }

    private static string Name(KvFinish finish) => finish switch
    {
        KvFinish.Stop => "stop",
        KvFinish.Length => "length",
        KvFinish.Cancelled => "cancelled",
        KvFinish.Deadline => "deadline",
        KvFinish.Closed => "closed",
        _ => "failed",
    };
}
