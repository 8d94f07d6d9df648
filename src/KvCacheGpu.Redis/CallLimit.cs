namespace KvCacheGpu;

/// <summary>
/// The end of a call: its deadline, or its caller's token. What is waited for goes on behind it, since a command that was sent cannot be taken back.
/// </summary>
internal readonly struct CallLimit : IDisposable
{
    private readonly CancellationTokenSource _end;
    private readonly CancellationToken _caller;
    private readonly TimeSpan _deadline;

    /// <summary>Begins the time of a call.</summary>
    /// <param name="deadline">How long it may take.</param>
    /// <param name="caller">Ends it earlier.</param>
    public CallLimit(TimeSpan deadline, CancellationToken caller)
    {
        (_deadline, _caller) = (deadline, caller);
        _end = CancellationTokenSource.CreateLinkedTokenSource(caller);
        _end.CancelAfter(deadline);
    }

    /// <summary>Waits for something, but not beyond the end.</summary>
    /// <exception cref="TimeoutException">The deadline passed.</exception>
    /// <exception cref="OperationCanceledException">The caller's token was cancelled.</exception>
    public async Task<T> Of<T>(Task<T> task)
    {
        // Also what is complete is not taken after the end: a run of replies that are all there takes time too.
        if (!_end.IsCancellationRequested)
        {
            try
            {
                return await task.WaitAsync(_end.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_end.IsCancellationRequested)
            {
                // Told below.
            }
        }

        _caller.ThrowIfCancellationRequested();
        throw new TimeoutException($"expected an answer within {_deadline.TotalMilliseconds} ms, got none");
    }

    /// <inheritdoc/>
    public void Dispose() => _end.Dispose();
}
