namespace KvCacheGpu.Serving;

/// <summary>
/// Serves many requests from one model and one cache: it batches whatever is ready into each step (Yu et al. 2022, "Orca"), reads long prompts in chunks beside answers that go on
/// (Agrawal et al. 2024, "Sarathi-Serve"), lets requests in as far as there is room for what they will need, and takes places back when there is not.
/// </summary>
/// <remarks>
/// <para>Its thread is the only one that calls the model. Sequences that others make in the same cache are left alone, and take room.</para>
/// <para>
/// An answer is the same whatever else runs, token for token, where the cache keeps pages in full precision and has no policy, and where the model computes a token alike alone and beside others.
/// Sealed formats and policies depend on when a page was sealed or dropped, and so on chunks of prompts; computing again after a preemption may differ there, swapping never does.
/// </para>
/// <para>Thread safety: members may be called from any thread.</para>
/// </remarks>
public sealed class KvScheduler : IAsyncDisposable
{
    private const int MostLogprobs = 20;

    private readonly KvCache _cache;
    private readonly IKvModel _model;
    private readonly KvSchedulerOptions _options;
    private readonly ServingLoop _loop;
    private readonly int _maxConcurrency;
    private readonly int _maxTokens;
    private readonly Lock _gate = new();
    private long _lastId;
    private int _waiting;
    private bool _isClosed;

    /// <summary>Begins to serve.</summary>
    /// <param name="cache">The cache, of the model's geometry. It is borrowed, and must outlive the scheduler.</param>
    /// <param name="model">The model. It is borrowed, and nobody else may run it.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range, or more than the model or the cache takes.</exception>
    public KvScheduler(KvCache cache, IKvModel model, KvSchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(model);
        options ??= new KvSchedulerOptions();
        KvCacheOptions limits = cache.Options;
        int mostTokens = Math.Min(model.MaxStepTokens, limits.MaxBatchTokens);
        int stepTokens = options.StepTokens ?? mostTokens;
        Check(stepTokens, 1, mostTokens, nameof(options.StepTokens));
        int most = Math.Min(stepTokens, limits.MaxSequences);
        _maxConcurrency = options.MaxConcurrency ?? most;
        Check(_maxConcurrency, 1, most, nameof(options.MaxConcurrency));
        Check(options.MaxWaiting, 0, int.MaxValue, nameof(options.MaxWaiting));
        Check(options.MaxPreemptions, 0, int.MaxValue, nameof(options.MaxPreemptions));
        Check(options.DraftTokens, 0, limits.ExactRollbackTokens, nameof(options.DraftTokens));
        Check(options.ReservedPart ?? 1, 0, 1, nameof(options.ReservedPart));
        foreach (double weight in options.TenantWeights?.Values ?? [])
        {
            Check(weight, double.Epsilon, double.MaxValue, nameof(options.TenantWeights));
        }


        // A policy may drop tokens, so that a sequence can be longer than what the cache holds.
        int held = limits.Policy is null ? limits.MaxTokens : int.MaxValue;
        _maxTokens = Math.Min(Math.Min(model.MaxContextTokens, held), limits.MaxSequenceTokens ?? limits.MaxTokens);
        (_cache, _model, _options) = (cache, model, options with { StepTokens = stepTokens });
        _loop = new ServingLoop(cache, model, _options, _maxConcurrency, () => Interlocked.Decrement(ref _waiting));

        static void Check<T>(T value, T least, T most, string name)
            where T : IComparable<T>
        {
            if (!(value.CompareTo(least) >= 0 && value.CompareTo(most) <= 0))
            {
                throw new ArgumentOutOfRangeException(name, value, $"expected {least}..{most}");
            }
        }
    }

    /// <summary>The cache that it serves from.</summary>
    public KvCache Cache => _cache;

    /// <summary>The most tokens of a prompt and its answer together: what the model and a sequence of the cache take.</summary>
    public int MaxTokens => _maxTokens;

    /// <summary>The most answers that run at once.</summary>
    public int MaxConcurrency => _maxConcurrency;

    /// <summary>Requests that wait for their first place.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>Takes a request. It runs from now on, whether or not its pieces are read.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cancellationToken">Cancels the request, at any time.</param>
    /// <exception cref="KvRequestRefusedException">It is not taken; the exception says why, and nothing has changed.</exception>
    public KvGeneration Submit(KvRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        KvRequest own = request with
        {
            Prompt = [.. request.Prompt],
            StopTexts = [.. request.StopTexts],
            StopTokens = request.StopTokens is null ? null : new HashSet<int>(request.StopTokens),
        };
        ThrowIfInvalid(own);
        long now = _options.Clock.GetTimestamp();
        long? deadline = own.Deadline is { } time ? now + (long)(time.TotalSeconds * _options.Clock.TimestampFrequency) : null;
        KvGeneration generation;
        lock (_gate)
        {
            if (_isClosed)
            {
                throw new KvRequestRefusedException(KvRefusal.Closed, "the scheduler takes no more requests");
            }

            if (_waiting >= _options.MaxWaiting)
            {
                throw new KvRequestRefusedException(KvRefusal.QueueFull, $"{_waiting} requests wait already, as many as may");
            }

            Interlocked.Increment(ref _waiting);
            generation = new KvGeneration(++_lastId, own, Cancel);
            if (!_loop.Post(() => _loop.Come(new RequestRun(generation, now, deadline))))
            {
                Interlocked.Decrement(ref _waiting);
                throw new KvRequestRefusedException(KvRefusal.Closed, "the scheduler has ended");
            }
        }

        if (cancellationToken.CanBeCanceled)
        {
            CancellationTokenRegistration registration = cancellationToken.Register(generation.Cancel);
            generation.Ended.ContinueWith(_ => registration.Dispose(), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        }

        return generation;
    }

    /// <summary>Tells what the scheduler does, once the step under way is over.</summary>
    /// <exception cref="ObjectDisposedException">The scheduler has ended.</exception>
    public Task<KvServingStatus> GetStatusAsync() => OnLoop(_loop.Status);

    /// <summary>Reads the sequence of an answer that runs, between two steps.</summary>
    /// <param name="id">The request's <see cref="KvGeneration.Id"/>.</param>
    /// <param name="choice">The answer.</param>
    /// <param name="read">Reads it, and neither changes nor keeps it. Every answer waits for it.</param>
    /// <returns>What was read; the default value if the answer has no pages now.</returns>
    /// <exception cref="ObjectDisposedException">The scheduler has ended.</exception>
    public Task<T?> ReadAsync<T>(long id, int choice, Func<KvSequence, T> read)
    {
        ArgumentNullException.ThrowIfNull(read);
        return OnLoop(() => _loop.Read(id, choice, read));
    }

    /// <summary>Takes no more requests, and waits for those that it has. What has not ended in time ends as <see cref="KvFinish.Closed"/>, with what has come by then.</summary>
    /// <param name="within">How long; 0 ends all before the next step.</param>
    public async Task DrainAsync(TimeSpan within)
    {
        lock (_gate)
        {
            _isClosed = true;
        }

        double seconds = Math.Clamp(within.TotalSeconds, 0, int.MaxValue);
        long at = _options.Clock.GetTimestamp() + (long)(seconds * _options.Clock.TimestampFrequency);
        _loop.Post(() => _loop.CloseAt(at));
        await _loop.Ended.ConfigureAwait(false);
    }

    /// <summary>Ends every request before the next step, and the thread. The cache and the model stay.</summary>
    public async ValueTask DisposeAsync()
    {
        await DrainAsync(TimeSpan.Zero).ConfigureAwait(false);
        _loop.Dispose();
    }

    private void Cancel(KvGeneration generation) => _loop.Post(() => _loop.Cancel(generation));

    private Task<T> OnLoop<T>(Func<T> read)
    {
        TaskCompletionSource<T> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bool isPosted = _loop.Post(() =>
        {
            try
            {
                done.SetResult(read());
            }
            catch (Exception failure)
            {
                done.SetException(failure);
            }
        });
        ObjectDisposedException.ThrowIf(!isPosted, this);
        return done.Task;
    }

    private void ThrowIfInvalid(KvRequest request)
    {
        int vocabulary = _model.VocabularySize;
        Check(request.Prompt.Count > 0, nameof(request.Prompt), "at least one token, got none");
        foreach (int token in request.Prompt)
        {
            Check((uint)token < (uint)vocabulary, nameof(request.Prompt), $"tokens of 0..{vocabulary - 1}, got {token}");
        }

        Check(request.MaxNewTokens >= 1, nameof(request.MaxNewTokens), $"at least 1, got {request.MaxNewTokens}");
        Check(request.Choices >= 1 && request.Choices <= _maxConcurrency, nameof(request.Choices), $"1 to {_maxConcurrency}, got {request.Choices}");
        Check(request.TopLogprobs is null or (>= 0 and <= MostLogprobs), nameof(request.TopLogprobs), $"0 to {MostLogprobs}, got {request.TopLogprobs}");
        Check(request.StopTexts.All(text => text.Length > 0), nameof(request.StopTexts), "texts of at least one character");
        Check(request.StopTexts.Count == 0 || _options.Tokenizer is not null, nameof(request.StopTexts), "none, since the scheduler has no tokenizer");
        Check(request.Deadline is null || request.Deadline > TimeSpan.Zero, nameof(request.Deadline), $"more than no time, got {request.Deadline}");
        try
        {
            request.Sampling.ThrowIfInvalid(vocabulary);
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new KvRequestRefusedException(KvRefusal.Invalid, e.Message, e.ParamName, e);
        }

        long tokens = (long)request.Prompt.Count + request.MaxNewTokens;
        long most = Math.Min(_maxTokens, _cache.GetTenantUsage(request.Tenant).Quota.Tokens ?? long.MaxValue);
        if (tokens > most)
        {
            throw new KvRequestRefusedException(
                KvRefusal.TooLong, $"expected at most {most} tokens, got {request.Prompt.Count} of the prompt and {request.MaxNewTokens} to generate", nameof(request.MaxNewTokens));
        }

        static void Check(bool holds, string parameter, string expected)
        {
            if (!holds)
            {
                throw new KvRequestRefusedException(KvRefusal.Invalid, $"{parameter}: expected {expected}", parameter);
            }
        }
    }
}
