using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;

namespace KvCacheGpu;

/// <summary>
/// A cache with everything that a configuration file can say: sessions by id, tokens by position, strategies, tenants, persistence. It lives
/// over a <see cref="KvCache"/>, which hosts that go through a model layer by layer use directly.
/// </summary>
/// <remarks>
/// Thread safety: members may be called from any thread; calls on one session queue. One token's keys are <c>[layers][KV heads][key width]</c>, values,
/// queries and outputs alike; of several tokens <c>[layers][tokens][heads][width]</c>.
/// </remarks>
/// <include file="../../docs/api/examples.xml" path="examples/of[@name='UltraAdaptiveKvCacheEngine']/*"/>
public sealed class UltraAdaptiveKvCacheEngine : IDisposable, IAsyncDisposable
{
    private readonly KvConfigurationReport _report;
    private readonly KvCacheConfig _config;
    private readonly SessionTable _sessions;
    private readonly SessionFiles _files;
    private readonly CallClocks _clocks;
    private readonly int _warmupTokens;
    private long _hits;
    private long _misses;

    /// <summary>Makes an engine of one layer, of the shape that <see cref="KvCacheConfig.Model"/> says.</summary>
    /// <param name="config">The keys; null takes their defaults, which lose precision (<see cref="KvCompressionOptions.UseCompression"/>).</param>
    /// <exception cref="KvConfigurationException">E003: a key is refused. <see cref="KvCacheConfig.Validate"/> lists all that are.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public UltraAdaptiveKvCacheEngine(KvCacheConfig? config = null)
        : this(null, config)
    {
    }

    /// <summary>Makes an engine for a model of any shape.</summary>
    /// <param name="geometry">The model's shape; null takes <see cref="KvCacheConfig.Model"/>'s.</param>
    /// <param name="config">The keys; null takes their defaults.</param>
    /// <inheritdoc cref="UltraAdaptiveKvCacheEngine(KvCacheConfig)" path="/exception"/>
    public UltraAdaptiveKvCacheEngine(KvGeometry? geometry, KvCacheConfig? config = null)
        : this(geometry, config, (shape, settings) => new KvCache(shape, settings))
    {
    }

    internal UltraAdaptiveKvCacheEngine(KvGeometry? geometry, KvCacheConfig? config, Func<KvGeometry, KvCacheOptions, KvCache> createCache)
    {
        _config = (config ?? new KvCacheConfig()).Copy();
        _report = _config.ThrowIfRefused(geometry);
        geometry ??= _config.Geometry();
        KvCacheOptions options = KeyMapping.OptionsOf(_config, geometry);
        if (options.PrefixReuse)
        {
            throw new KvConfigurationException(
                nameof(options.PrefixReuse), "false: sessions are known by positions, without token ids to find a prefix by", "true");
        }

        Cache = createCache(geometry, options);
        _sessions = new SessionTable(Cache, _config);
        _files = new SessionFiles(Cache, _config, _sessions);
        _clocks = new CallClocks(_config);
        try
        {
            _warmupTokens = _config.Execution.EnableWarmup ? Warmup.Run(Cache, _config.Execution.WarmupSamples) : 0;
        }
        catch
        {
            Cache.Dispose();
            throw;
        }
    }

    /// <summary>The cache below, with the settings that follow from the configuration in <see cref="KvCache.Options"/>.</summary>
    public KvCache Cache { get; }

    /// <summary>A copy of what the engine was made with.</summary>
    public KvCacheConfig Config => _config.Copy();

    /// <summary>The sessions, in no order. Without <see cref="KvTenancyOptions.TenantIsolation"/> they name no tenant.</summary>
    public IReadOnlyList<KvSessionKey> Sessions => _sessions.Keys;

    /// <summary>Readers of caches that something else wrote, for <see cref="LoadAsync"/>; pickles and files of torch.save need none. The default value is none.</summary>
    public IReadOnlyList<ISnapshotImporter> Importers { get; init; } = [];

    /// <summary>
    /// Stores tokens at consecutive positions. A single one may be put again: it is replaced where it lies, and no other token changes by a bit. If
    /// the call is refused, nothing has changed, and a session that it would have made is not there.
    /// </summary>
    /// <param name="position">The first one's, 0 or more; gaps are allowed. Keys come as the model roped them: the position is only a name.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>; how long it is says how many tokens.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="session">The session; it is made if it is not there. The default value is the default session.</param>
    /// <exception cref="ArgumentException">No whole tokens, more than one step takes, one of several that is there already, or a wrong tenant.</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the session, the cache or the tenant's quota; nothing has changed.</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: replacing a token that a policy evicted, or one whose page was sealed into fewer bits, where tokens have their scales in common: a page or two
    /// (<see cref="KvModelOptions.BlockSize"/>) after it was put. Without compression every token can be replaced. See <see cref="KvSequence.Replace"/>.
    /// </exception>
    public void Put(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        int tokens = TokensOf(keys, Cache.Geometry.KvHeads * Cache.Geometry.KeyWidth, nameof(keys));
        ThrowIfNotOf(values, tokens, Cache.Geometry.KvHeads * Cache.Geometry.ValueWidth, nameof(values));
        int[] positions = PositionsFrom(position, tokens);
        EngineSession into = _sessions.EnterOrCreate(session, keys, values, tokens);
        try
        {
            if (tokens == 1 && into.Contains(position))
            {
                into.Replace(position, keys, values);
            }
            else
            {
                ThrowIfTaken(into, positions);
                _sessions.Append(into, positions, keys, values, [], []);
            }
        }
        finally
        {
            _sessions.Leave(into, session);
        }

        _clocks.Note("put", since);
    }

    /// <summary>Reads a token as it is stored: decoded, so that a compressed one is near to what was put, not equal.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="key">Receives <c>[layers][KV heads][key width]</c>.</param>
    /// <param name="value">Receives <c>[layers][KV heads][value width]</c>.</param>
    /// <param name="session">The session.</param>
    /// <returns>False if it was never put, or if a policy evicted it in some layer and head.</returns>
    /// <exception cref="ArgumentException">A target of another length, or a wrong tenant.</exception>
    public bool TryGet(int position, Span<float> key, Span<float> value, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ThrowIfNotOf(key, 1, Cache.Geometry.KvHeads * Cache.Geometry.KeyWidth, nameof(key));
        ThrowIfNotOf(value, 1, Cache.Geometry.KvHeads * Cache.Geometry.ValueWidth, nameof(value));
        bool found = false;
        if (_sessions.Find(session) is { } from)
        {
            lock (from.Gate)
            {
                found = !from.IsDisposed && from.TryRead(position, key, value);
            }
        }

        Interlocked.Increment(ref found ? ref _hits : ref _misses);
        _clocks.Note("get", since);
        return found;
    }

    /// <summary>The same, in new arrays; null if <see cref="TryGet"/> returns false.</summary>
    public (float[] Key, float[] Value)? Get(int position, KvSessionKey session = default)
    {
        KvGeometry g = Cache.Geometry;
        float[] key = new float[g.Layers * g.KvHeads * g.KeyWidth];
        float[] value = new float[g.Layers * g.KvHeads * g.ValueWidth];
        return TryGet(position, key, value, session) ? (key, value) : null;
    }

    /// <summary>
    /// Attends from the place of the session's last token to it and all before it. Changes nothing that is stored, and takes no room for tokens. It counts
    /// as attention that the tokens received: strategies that keep what is attended to go by it.
    /// </summary>
    /// <param name="query"><c>[layers][query heads][key width]</c>, scaled inside by <see cref="KvGeometry.AttentionScale"/>.</param>
    /// <param name="output">Receives <c>[layers][query heads][value width]</c>.</param>
    /// <param name="session">The session.</param>
    /// <exception cref="ArgumentException">A wrong length or tenant, or a session without tokens.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: steps that the host has open on <see cref="Cache"/> hold all the working memory.</exception>
    public void Forward(ReadOnlySpan<float> query, Span<float> output, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ThrowIfNotOf(query, 1, Cache.Geometry.QueryHeads * Cache.Geometry.KeyWidth, nameof(query));
        ThrowIfNotOf(output, 1, Cache.Geometry.QueryHeads * Cache.Geometry.ValueWidth, nameof(output));
        EngineSession over = _sessions.Find(session) ?? throw NoTokens(session);
        lock (over.Gate)
        {
            if (over.IsDisposed || over.Sequence.Length == 0)
            {
                throw NoTokens(session);
            }

            _sessions.Attend(over, query, output);
        }

        _clocks.Note("forward", since);
    }

    /// <summary>Appends tokens after the largest position and attends from each to all before it, causally.</summary>
    /// <param name="query"><c>[layers][tokens][query heads][key width]</c>.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="output">Receives <c>[layers][tokens][query heads][value width]</c>.</param>
    /// <param name="session">The session; it is made if it is not there.</param>
    /// <returns>The first token's position.</returns>
    /// <exception cref="ArgumentException">No whole tokens, more than one step takes, or a wrong tenant.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the session, the cache or the tenant's quota; nothing has changed.</exception>
    public int Forward(ReadOnlySpan<float> query, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, Span<float> output, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        KvGeometry g = Cache.Geometry;
        int tokens = TokensOf(keys, g.KvHeads * g.KeyWidth, nameof(keys));
        ThrowIfNotOf(values, tokens, g.KvHeads * g.ValueWidth, nameof(values));
        ThrowIfNotOf(query, tokens, g.QueryHeads * g.KeyWidth, nameof(query));
        ThrowIfNotOf(output, tokens, g.QueryHeads * g.ValueWidth, nameof(output));
        EngineSession over = _sessions.EnterOrCreate(session, keys, values, tokens);
        int position;
        try
        {
            position = over.NextPosition;
            int[] positions = PositionsFrom(position, tokens);
            ThrowIfTaken(over, positions);
            _sessions.Append(over, positions, keys, values, query, output);
        }
        finally
        {
            _sessions.Leave(over, session);
        }

        _clocks.Note("forward", since);
        return position;
    }

    /// <summary>Saves a session. Once this returns, it is there, power loss or not. Calls on the session wait meanwhile.</summary>
    /// <param name="name">What it is called in the store; a tenant's names are the tenant's own.</param>
    /// <param name="session">The session.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <exception cref="KvConfigurationException">E003: persistence is off.</exception>
    /// <exception cref="ArgumentException">No such session, or a wrong tenant.</exception>
    /// <inheritdoc cref="KvCacheSnapshots.SaveAsync" path="/exception[@cref='T:KvCacheGpu.KvPersistenceException' or @cref='T:KvCacheGpu.KvStoreBusyException' or @cref='T:KvCacheGpu.KvNewerVersionException']"/>
    public Task<SnapshotInfo> SaveAsync(string name, KvSessionKey session = default, CancellationToken cancellationToken = default) =>
        _files.SaveAsync(name, session, cancellationToken);

    /// <summary>
    /// Loads what was saved, in the place of the session that is there. If the store has nothing of that name, a file of that name in the store's directory
    /// is loaded by its content: a cache of an older version, which is a pickle or a file of torch.save, converts here by itself. The file stays as it
    /// is; <see cref="SaveAsync"/> keeps what came of it.
    /// </summary>
    /// <param name="name">What it is called in the store, or the file.</param>
    /// <param name="session">The session that it becomes; of a file with several, each becomes one of its own id and this one's tenant.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>What was loaded, and how much of it is as it was saved. Its sequences are the sessions': do not use or dispose them.</returns>
    /// <exception cref="KvConfigurationException">E003: persistence is off, or it is of another model.</exception>
    /// <exception cref="ArgumentException">A wrong tenant.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the cache, or in the tenant's quota.</exception>
    /// <inheritdoc cref="KvCacheSnapshots.LoadAsync" path="/exception[@cref='T:KvCacheGpu.KvSnapshotNotFoundException' or @cref='T:KvCacheGpu.KvCorruptionException' or @cref='T:KvCacheGpu.KvNewerVersionException' or @cref='T:KvCacheGpu.KvUnsupportedException']"/>
    public Task<KvRestored> LoadAsync(string name, KvSessionKey session = default, CancellationToken cancellationToken = default) =>
        _files.LoadAsync(name, session, Importers, cancellationToken);

    /// <summary>Drops a session and gives its memory back.</summary>
    /// <returns>True if there was one.</returns>
    /// <exception cref="ArgumentException">A tenant where there are none, or none where there are.</exception>
    public bool Clear(KvSessionKey session) => _sessions.Clear(session);

    /// <summary>Drops every session.</summary>
    public void Clear() => _sessions.Clear();

    /// <summary>
    /// Takes those keys of a configuration that a running engine can change (<see cref="KvConfigurationKey.IsLive"/>), from the next plan or call on,
    /// and leaves all others alone. A <see cref="KvCacheOptions.Watermark"/> that <see cref="KvCacheConfig.ConfigureOptions"/> sets stays.
    /// </summary>
    /// <exception cref="KvConfigurationException">E003: one of them is refused. Nothing has changed.</exception>
    public void Apply(KvCacheConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        KvCacheConfig wanted = _config.Copy();
        Take(wanted, config);
        _ = wanted.ThrowIfRefused(Cache.Geometry);
        Take(_config, config);
        Cache.Watermark = KeyMapping.OptionsOf(_config, Cache.Geometry).Watermark;
    }

    /// <summary>The version of this library, "2.1.0".</summary>
    [SuppressMessage("Performance", "CA1822", Justification = "The name that users of older versions call on the engine.")]
    public string GetVersion()
    {
        string full = typeof(UltraAdaptiveKvCacheEngine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
        return full.Split('+')[0];
    }

    /// <summary>Names of what this build can do on this device with heads of this width, in ordinal order: "device:cpu", "format:t4/v4", "strategy:lru".</summary>
    public IReadOnlyList<string> GetSupportedFeatures() => SupportedFeatures.Of(Cache);

    /// <summary>The warnings of the engine's configuration. An engine that exists has no issue: ask <see cref="KvCacheConfig.Validate"/> before.</summary>
    public KvConfigurationReport ValidateConfiguration() => _report;

    /// <summary>Counts of what the engine holds, and of what it has done so far.</summary>
    public KvEngineStats GetStats()
    {
        EngineSession[] sessions = _sessions.All();
        long tokens = 0;
        double evicted = 0;
        foreach (EngineSession session in sessions)
        {
            lock (session.Gate)
            {
                if (!session.IsDisposed)
                {
                    tokens += session.Sequence.Length;
                    evicted += session.Sequence.EvictedTokens;
                }
            }
        }

        return new KvEngineStats
        {
            Sessions = sessions.Length,
            Tokens = tokens,
            EvictedTokens = evicted,
            Hits = Interlocked.Read(ref _hits),
            Misses = Interlocked.Read(ref _misses),
            WarmupTokens = _warmupTokens,
            Memory = _config.Memory.MonitorMemory
                ? new KvEngineMemory(Cache.AllocatedBytes, Cache.BudgetBytes, Cache.Geometry.DenseF16Bytes(tokens), Cache.GetPageCounts())
                : null,
            Times = _clocks.Read(),
        };
    }

    /// <summary>
    /// Disposes every session and gives the memory back. From any thread: it waits for calls of other threads that are inside of a session; calls that come
    /// later throw <see cref="ObjectDisposedException"/>.
    /// </summary>
    /// <exception cref="KvConcurrencyException">
    /// E006: called from inside of a call on the engine or its <see cref="Cache"/>, as a policy could; nothing was disposed. It cannot be otherwise: that
    /// call goes on in the memory that would be given back.
    /// </exception>
    public void Dispose() => _sessions.Close();

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    internal SnapshotOptions StoreOptions() => _files.Options;

    private static void Take(KvCacheConfig to, KvCacheConfig from)
    {
        foreach (KvConfigurationKey key in KvConfigurationKeys.All.Where(key => key.IsLive))
        {
            key.Write(to, key.Read(from));
        }
    }

    private static ArgumentException NoTokens(KvSessionKey session) => new($"expected a session with tokens, got '{session}', which has none", nameof(session));

    private static int[] PositionsFrom(int position, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(position, int.MaxValue - tokens + 1);
        return [.. Enumerable.Range(position, tokens)];
    }

    private static void ThrowIfTaken(EngineSession session, int[] positions)
    {
        int taken = Array.FindIndex(positions, session.Contains);
        if (taken >= 0)
        {
            throw new ArgumentException($"expected positions that are not there yet, got {positions[taken]} again", nameof(positions));
        }
    }

    private int TokensOf(ReadOnlySpan<float> all, int width, string name)
    {
        int ofToken = Cache.Geometry.Layers * width;
        return all.Length > 0 && all.Length % ofToken == 0
            ? all.Length / ofToken
            : throw new ArgumentException($"{name}: expected {ofToken} elements for each token, got {all.Length}", name);
    }

    private void ThrowIfNotOf(ReadOnlySpan<float> all, int tokens, int width, string name)
    {
        int expected = Cache.Geometry.Layers * tokens * width;
        if (all.Length != expected)
        {
            throw new ArgumentException($"{name}: expected {expected} elements, got {all.Length}", name);
        }
    }
}
