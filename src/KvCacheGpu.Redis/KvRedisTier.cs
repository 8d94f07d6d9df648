using StackExchange.Redis;

namespace KvCacheGpu;

/// <summary>
/// A tier on a server that processes and machines share: Redis, Valkey or Garnet, alone or as a cluster. It holds blocks of prefixes under their hashes; how long is
/// left to the server. A server that is down, slow or full is a miss: no call waits longer than <see cref="KvRedisTierOptions.Deadline"/>, and after some failures
/// in a row the server is left alone for a while.
/// </summary>
/// <remarks>
/// Tenant and salt are inside of the hash, as <see cref="KvCacheOptions.ModelFingerprint"/> and the formats are: blocks of another tenant have other names, which
/// a secret salt hides. Whoever can read the server can read all blocks that are not encrypted.
/// Thread safety: members may be called from any thread.
/// </remarks>
public sealed class KvRedisTier : KvTier, IAsyncDisposable, IDisposable
{
    private readonly RedisConnection _connection;
    private readonly CircuitBreaker _breaker;
    private readonly BlockFrame _frame;
    private readonly KvRedisTierOptions _options;

    /// <summary>A tier with a connection of its own, which it begins to make. It does not wait for the server, which need not be there yet.</summary>
    /// <param name="address">
    /// <c>redis://USER:PASSWORD@HOST:PORT/DATABASE</c>; <c>rediss://</c> for TLS; several hosts of a cluster between commas; or a text of StackExchange.Redis.
    /// </param>
    /// <param name="options">Options; the defaults if null.</param>
    /// <exception cref="KvConfigurationException">E003: the address cannot be read, or an option is out of its range.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvRedisTier']/*"/>
    public KvRedisTier(string address, KvRedisTierOptions? options = null)
        : this(Checked(options), new RedisConnection(RedisAddress.Parse(address)), TimeProvider.System)
    {
    }

    /// <summary>A tier on a host's own connection, which stays the host's: disposing the tier leaves it open.</summary>
    /// <param name="connection">The connection. <see cref="ConfigurationOptions.AbortOnConnectFail"/> should be false, so that it comes back by itself.</param>
    /// <param name="options">Options; the defaults if null.</param>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range.</exception>
    public KvRedisTier(IConnectionMultiplexer connection, KvRedisTierOptions? options = null)
        : this(Checked(options), new RedisConnection(connection), TimeProvider.System)
    {
    }

    internal KvRedisTier(KvRedisTierOptions options, RedisConnection connection, TimeProvider clock)
    {
        _options = Checked(options);
        _connection = connection;
        _frame = new BlockFrame(_options.KeyPrefix, _options.EncryptionKey);
        _breaker = new CircuitBreaker(_options.BreakAfter, _options.BreakFor, clock);
    }

    /// <inheritdoc/>
    public override string Name => "redis";

    /// <summary>Null: other processes use the server too.</summary>
    public override long? BytesInUse => null;

    /// <summary>Null: the server's <c>maxmemory</c> limits it.</summary>
    public override long? BytesLimit => null;

    /// <summary>
    /// True while the server is left alone because it failed <see cref="KvRedisTierOptions.BreakAfter"/> times in a row: calls are misses at once, but for one every
    /// <see cref="KvRedisTierOptions.BreakFor"/>. It becomes false with the first that succeeds.
    /// </summary>
    public bool IsOpen => _breaker.IsOpen;

    /// <summary>The opposite of <see cref="IsOpen"/>.</summary>
    public override bool IsAvailable => !IsOpen;

    /// <summary>Calls that did not ask the server because it was left alone.</summary>
    public long CallsRefused => _breaker.Refused;

    /// <summary>Asks the server for a sign of life, also while it is left alone.</summary>
    /// <param name="wait">How long to wait for a connection and the answer.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The time to the answer, or null if there was none.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async Task<TimeSpan?> PingAsync(TimeSpan wait, CancellationToken cancellationToken = default)
    {
        using CallLimit limit = new(wait, cancellationToken);
        try
        {
            IDatabase database = await _connection.DatabaseAsync(limit).ConfigureAwait(false);
            return await limit.Of(database.PingAsync()).ConfigureAwait(false);
        }
        catch (Exception e) when (e is RedisException or TimeoutException or ObjectDisposedException)
        {
            return null;
        }
    }

    /// <summary>Closes its own connection; a host's stays open. Calls afterwards are misses.</summary>
    public void Dispose() => _connection.Dispose();

    /// <inheritdoc cref="Dispose"/>
    public async ValueTask DisposeAsync() => await _connection.DisposeAsync().ConfigureAwait(false);

    /// <inheritdoc/>
    protected override ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken) =>
        RunAsync(new BlockReads(_frame, keys, blocks, _options.MostBytesAtOnce), cancellationToken);

    /// <inheritdoc/>
    protected override ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken) =>
        RunAsync(new BlockWrites(_frame, keys, blocks, _options), cancellationToken);

    private static KvRedisTierOptions Checked(KvRedisTierOptions? options) => (options ?? new KvRedisTierOptions()).Check();

    // What was done counts also if the rest failed.
    private async ValueTask<int> RunAsync(IBlockRun run, CancellationToken cancellationToken)
    {
        if (!_breaker.TryEnter())
        {
            return 0;
        }

        using CallLimit limit = new(_options.Deadline, cancellationToken);
        try
        {
            IDatabase database = await _connection.DatabaseAsync(limit).ConfigureAwait(false);
            await run.RunAsync(database, limit).ConfigureAwait(false);
            _breaker.Succeed();
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            _breaker.Leave();
            throw;
        }
#pragma warning disable CA1031 // Whatever goes wrong is a miss.
        catch (Exception e)
#pragma warning restore CA1031
        {
            NoteError(e);
            if (run.Done > 0)
            {
                _breaker.Succeed();
            }
            else
            {
                _breaker.Fail();
            }
        }

        foreach (Exception damage in run.Damage)
        {
            NoteError(damage);
        }

        return run.Done;
    }
}
