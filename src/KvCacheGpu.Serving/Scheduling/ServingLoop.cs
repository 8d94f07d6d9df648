using System.Collections.Concurrent;

namespace KvCacheGpu.Serving;

/// <summary>The thread that serves: it takes commands between steps, lets lanes in, and runs steps while there are any.</summary>
internal sealed class ServingLoop : IDisposable
{
    // While lanes wait and none runs, somebody else holds the cache's room, and does not say when it is given back.
    private static readonly TimeSpan Retry = TimeSpan.FromMilliseconds(20);

    private readonly KvSchedulerOptions _options;
    private readonly LaneSet _lanes;
    private readonly Entrance _entrance;
    private readonly ServingStep _step;
    private readonly ServingCounts _counts;
    private readonly ConcurrentQueue<Action> _commands = new();
    private readonly AutoResetEvent _signal = new(initialState: false);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private long? _closeAt;
    private bool _isClosed;

    public ServingLoop(KvCache cache, IKvModel model, KvSchedulerOptions options, int maxConcurrency, Action leaveLine)
    {
        _options = options;
        _counts = new ServingCounts(options.Clock);
        Admission admission = new(cache, options);
        LanePages pages = new(cache, options.Preemption);
        _lanes = new LaneSet(options, new TenantShares(options.TenantWeights), admission, _counts, leaveLine);
        _entrance = new Entrance(_lanes, pages, admission, maxConcurrency);
        _step = new ServingStep(cache, model, options, _lanes, _entrance, _counts, new StepPlan(options.StepTokens!.Value, options.DraftTokens));
        Thread thread = new(Serve) { IsBackground = true, Name = "KvScheduler" };
        thread.Start();
    }

    /// <summary>Ends when the thread does.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Has the thread do something before its next step.</summary>
    /// <returns>False if the thread has ended: it is never done.</returns>
    public bool Post(Action command)
    {
        lock (_gate)
        {
            if (_isClosed)
            {
                return false;
            }

            _commands.Enqueue(command);
        }

        _signal.Set();
        return true;
    }

    /// <summary>A request has come. On the thread.</summary>
    public void Come(RequestRun run) => _lanes.Come(run);

    /// <summary>A request is wanted no longer. On the thread.</summary>
    public void Cancel(KvGeneration generation)
    {
        if (_lanes.Runs.FirstOrDefault(run => run.Generation == generation) is { } run)
        {
            run.IsCancelled = true;
        }
    }

    /// <summary>Ends what has not ended at a time, and the thread after it. On the thread.</summary>
    /// <param name="timestamp">The clock's timestamp.</param>
    public void CloseAt(long timestamp) => _closeAt = Math.Min(_closeAt ?? timestamp, timestamp);

    /// <summary>What is done. On the thread.</summary>
    public KvServingStatus Status() => _counts.Status(
        [.. _lanes.Running.Select(lane => Status(lane, isRunning: true)), .. _lanes.Line.Lanes.Select(lane => Status(lane, isRunning: false))]);

    /// <summary>Reads a running answer's sequence. On the thread.</summary>
    /// <returns>The default value if the answer has no pages now.</returns>
    public T? Read<T>(long id, int choice, Func<KvSequence, T> read) =>
        _lanes.Running.FirstOrDefault(lane => lane.Run.Generation.Id == id && lane.Choice == choice) is { Sequence: { } sequence } ? read(sequence) : default;

    /// <summary>Frees the signal, once the thread has ended.</summary>
    public void Dispose() => _signal.Dispose();

    private static KvAnswerStatus Status(Lane lane, bool isRunning)
    {
        KvRequest request = lane.Run.Request;
        KvAnswerState state = isRunning
            ? lane.NewTokens > 0 && lane.Pending <= 1 ? KvAnswerState.Generating : KvAnswerState.Reading
            : lane.Preemptions > 0 ? KvAnswerState.Preempted : KvAnswerState.Waiting;
        return new KvAnswerStatus(
            lane.Run.Generation.Id, lane.Choice, request.Tenant, request.Priority, state, request.Prompt.Count, lane.NewTokens, lane.Computed);
    }

    private void Serve()
    {
        try
        {
            while (GoesOn())
            {
                _entrance.Admit();
                if (_lanes.Running.Count > 0)
                {
                    _step.Run();
                }
                else
                {
                    Wait();
                }
            }
        }
        catch (Exception failure)
        {
            // A fault of the scheduler or of the device: nobody waits for ever.
            foreach (RequestRun run in _lanes.Runs.ToArray())
            {
                run.Generation.Fail(failure);
                _lanes.End(run, KvFinish.Failed);
            }
        }

        Close();
    }

    private bool GoesOn()
    {
        RunCommands();
        long now = _options.Clock.GetTimestamp();
        bool isClosing = _closeAt <= now;
        foreach (RequestRun run in _lanes.Runs.ToArray())
        {
            if (run.IsCancelled || run.Deadline <= now || isClosing)
            {
                _lanes.End(run, run.IsCancelled ? KvFinish.Cancelled : isClosing ? KvFinish.Closed : KvFinish.Deadline);
            }
        }

        return _closeAt is null || _lanes.Runs.Count > 0;
    }

    private void RunCommands()
    {
        while (_commands.TryDequeue(out Action? command))
        {
            command();
        }
    }

    private void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
        }

        // Requests that came in between.
        RunCommands();
        foreach (RequestRun run in _lanes.Runs.ToArray())
        {
            _lanes.End(run, KvFinish.Closed);
        }

        _ended.SetResult();
    }

    private void Wait()
    {
        long? until = _closeAt;
        foreach (RequestRun run in _lanes.Runs)
        {
            until = until is { } earlier && !(run.Deadline < earlier) ? earlier : run.Deadline ?? until;
        }

        TimeSpan wait = Timeout.InfiniteTimeSpan;
        if (until is { } timestamp)
        {
            // At least a millisecond, since waits are not exact.
            double milliseconds = Math.Ceiling(_options.Clock.GetElapsedTime(_options.Clock.GetTimestamp(), timestamp).TotalMilliseconds);
            wait = TimeSpan.FromMilliseconds(Math.Clamp(milliseconds, 1, 60_000));
        }

        if (_lanes.Line.Lanes.Count > 0 && (wait > Retry || wait == Timeout.InfiniteTimeSpan))
        {
            wait = Retry;
        }

        _signal.WaitOne(wait);
    }
}
