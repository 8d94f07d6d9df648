using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What the engine says of itself.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    /// <summary>The version of this library, "2.1.0".</summary>
    [SuppressMessage("Performance", "CA1822", Justification = "The name that users of older versions call on the engine.")]
    public string GetVersion()
    {
        string full = typeof(UltraAdaptiveKvCacheEngine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
        return full.Split('+')[0];
    }

    /// <summary>What this build can do on this device with heads of this width, in ordinal order: "device:cpu", "format:t4/v4", "strategy:lru".</summary>
    public IReadOnlyList<string> GetSupportedFeatures()
    {
        KvGeometry g = Cache.Geometry;
        IEnumerable<string> formats =
            from key in Enum.GetValues<PageFormat>()
            from value in Enum.GetValues<PageFormat>()
            where PageFormats.IsPair(key, value) && key.Takes(g.KeyWidth) && value.Takes(g.ValueWidth)
            select $"format:{new KvFormats(key, value)}";
        IEnumerable<string> features =
        [
            "paging",
            "sessions",
            "tenants",
            .. OperatingSystem.IsLinux() ? ["persistence"] : Array.Empty<string>(),
            $"device:{Cache.Device.Id}",
            $"kernels:{Cache.TierName}",
            .. formats,
            .. Enum.GetNames<KvCacheStrategy>().Select(name => $"strategy:{name.ToLowerInvariant()}"),
            .. KvPolicies.Names.Where(IsUsable).Select(name => $"policy:{name}"),
        ];
        return [.. features.Order(StringComparer.Ordinal)];
    }

    /// <summary>What the engine's configuration has to be warned of. An engine that exists has no issue: ask <see cref="KvCacheConfig.Validate"/> before.</summary>
    public KvConfigurationReport ValidateConfiguration() => _report;

    /// <summary>What the engine holds and did so far.</summary>
    public KvEngineStats GetStats()
    {
        EngineSession[] sessions;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            sessions = [.. _sessions.Values.Where(session => !session.IsTentative)];
        }

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
            Times = _config.Execution.EnableProfiling
                ? new Dictionary<string, KvCallTimes> { ["put"] = _putClock.Read(), ["get"] = _getClock.Read(), ["forward"] = _forwardClock.Read() }
                : null,
        };
    }

    private static bool IsUsable(string name) =>
        KvPolicies.TryParse(name, out KvPolicy? policy) && policy is not null && (policy.Needs & KvStatistics.FutureQueries) == 0;
}
