using StackExchange.Redis;

namespace KvCacheGpu;

/// <summary>A connection that is lent by a host, or one of its own that is made behind the calls.</summary>
internal sealed class RedisConnection : IAsyncDisposable, IDisposable
{
    private readonly Lock _lock = new();
    private readonly ConfigurationOptions? _options;
    private Task<IConnectionMultiplexer> _made;
    private bool _isDisposed;

    /// <summary>Begins to connect.</summary>
    public RedisConnection(ConfigurationOptions options)
    {
        _options = options;
        _made = MakeAsync();
    }

    /// <summary>Takes a host's.</summary>
    public RedisConnection(IConnectionMultiplexer lent)
    {
        ArgumentNullException.ThrowIfNull(lent);
        _made = Task.FromResult(lent);
    }

    /// <summary>The database, as soon as it is connected for the first time.</summary>
    /// <exception cref="TimeoutException">It is not yet.</exception>
    /// <exception cref="RedisException">It cannot be.</exception>
    /// <exception cref="ObjectDisposedException">It is closed.</exception>
    public async Task<IDatabase> DatabaseAsync(CallLimit limit)
    {
        Task<IConnectionMultiplexer> made;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, typeof(KvRedisTier));
            if (_made.IsFaulted)
            {
                // Not for a server that is down: a connection comes back to that by itself.
                _made = MakeAsync();
            }

            made = _made;
        }

        IConnectionMultiplexer connection = await limit.Of(made).ConfigureAwait(false);
        // A host's connection may keep commands for a server that is down, until they time out.
        return connection.IsConnected
            ? connection.GetDatabase()
            : throw new RedisConnectionException(ConnectionFailureType.UnableToConnect, CommandFlags.None, "expected a connection to the Redis server, got none");
    }

    /// <inheritdoc/>
    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;
        }

        if (_options is null)
        {
            return;
        }

        Task closed = _made.ContinueWith(Close, CancellationToken.None, TaskContinuationOptions.OnlyOnRanToCompletion, TaskScheduler.Default);
        if (_made.IsCompletedSuccessfully)
        {
            await closed.ConfigureAwait(false);
        }
    }

    private static void Close(Task<IConnectionMultiplexer> made)
    {
        // A server that hangs must not hold the end up.
        made.Result.Close(allowCommandsToComplete: false);
        made.Result.Dispose();
    }

    // On a thread of the pool: what comes before the first wait, as a look-up of names, may take long.
    private Task<IConnectionMultiplexer> MakeAsync() => Task.Run<IConnectionMultiplexer>(async () => await ConnectionMultiplexer.ConnectAsync(_options!).ConfigureAwait(false));
}
