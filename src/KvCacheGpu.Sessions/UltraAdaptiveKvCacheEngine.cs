using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// A cache with everything that a configuration file can say: sessions by id, tokens by position, strategies, tenants, persistence. It lives
/// over a <see cref="KvCache"/>, which hosts that go layer by layer through a model use directly.
/// </summary>
/// <remarks>
/// Members may be called from any thread; calls on one session queue. One token's keys are <c>[layers][KV heads][key width]</c>, values,
/// queries and outputs alike; of several tokens <c>[layers][tokens][heads][width]</c>.
/// </remarks>
public sealed partial class UltraAdaptiveKvCacheEngine : IDisposable, IAsyncDisposable
{
    private readonly KvConfigurationReport _report;
    private readonly KvCacheConfig _config;
    private readonly int _warmupTokens;
    private bool _disposed;

    /// <summary>Makes an engine of one layer, of the shape that <see cref="KvCacheConfig.Model"/> says.</summary>
    /// <param name="config">Settings; null takes the defaults, which are lossy (<see cref="KvCompressionOptions.CompressionRatio"/>).</param>
    /// <exception cref="KvConfigurationException">E003: a key is refused; all that are: <see cref="KvCacheConfig.Validate"/>.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public UltraAdaptiveKvCacheEngine(KvCacheConfig? config = null)
        : this(null, config)
    {
    }

    /// <summary>Makes an engine for a model of any shape.</summary>
    /// <param name="geometry">The model's shape; null takes <see cref="KvCacheConfig.Model"/>'s.</param>
    /// <param name="config">Settings; null takes the defaults.</param>
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
        try
        {
            _warmupTokens = _config.Execution.EnableWarmup ? WarmUp(Math.Min(_config.Execution.WarmupSamples, _config.MaxTokens)) : 0;
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

    /// <summary>Disposes every session and gives the memory back.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
        }

        Clear();
        Cache.Dispose();
    }

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    private int WarmUp(int samples)
    {
        using KvSequence sequence = Cache.CreateSequence();
        KvGeometry g = Cache.Geometry;
        while (sequence.Length < samples)
        {
            int tokens = Math.Min(samples - sequence.Length, Cache.Options.MaxBatchTokens);
            if (!sequence.TryBegin(new int[tokens], out KvStep? step))
            {
                break;
            }

            using (step)
            {
                for (int layer = 0; layer < g.Layers; layer++)
                {
                    step.Append(layer, new float[tokens * g.KvHeads * g.KeyWidth], new float[tokens * g.KvHeads * g.ValueWidth]);
                    step.Attend(layer, new float[tokens * g.QueryHeads * g.KeyWidth], new float[tokens * g.QueryHeads * g.ValueWidth]);
                }

                step.Commit();
            }
        }

        return sequence.Length;
    }
}
