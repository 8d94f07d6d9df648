using Microsoft.Extensions.FileProviders;
using Microsoft.Extensions.Primitives;

namespace KvCacheGpu.Configuration;

/// <summary>
/// Takes changes of a configuration's files while a cache runs. A change is read and checked whole first. Keys that are
/// <see cref="KvConfigurationKey.IsLive"/> are applied; of all others, and where anything is malformed, the old value stays.
/// </summary>
/// <remarks>Thread safety: members may be called from any thread; changes are taken one after the other.</remarks>
public sealed class KvConfigurationReload : IDisposable
{
    private readonly Lock _gate = new();
    private readonly KvConfigurationSources _sources;
    private readonly Action<KvCacheConfig> _apply;
    private readonly List<IDisposable> _held = [];

    /// <summary>Loads, and from then on watches the files (by polling, every four seconds, since not every file system tells).</summary>
    /// <param name="sources">Where the configuration is read from.</param>
    /// <param name="apply">Gives a running cache the live values, <see cref="UltraAdaptiveKvCacheEngine.Apply"/>.</param>
    /// <param name="changes">Tells of changes in place of the files' own watch; null watches them.</param>
    /// <exception cref="KvConfigurationException">E003: as <see cref="KvConfiguration.Load"/>.</exception>
    public KvConfigurationReload(KvConfigurationSources sources, Action<KvCacheConfig> apply, Func<IChangeToken?>? changes = null)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(apply);
        (_sources, _apply) = (sources, apply);
        Current = KvConfiguration.Load(sources);
        foreach (Func<IChangeToken?> producer in changes is not null ? [changes] : Watches(sources))
        {
            _held.Add(ChangeToken.OnChange(producer, () => Reload()));
        }
    }

    /// <summary>Called after every change of the files that had something to tell, on the thread that saw it.</summary>
    public event Action<KvReloadOutcome>? Reloaded;

    /// <summary>What is in force: live keys as last applied, all others as at the start.</summary>
    public KvConfiguration Current { get; private set; }

    /// <summary>Reads the sources again now, whether they changed or not.</summary>
    public KvReloadOutcome Reload()
    {
        KvReloadOutcome outcome;
        lock (_gate)
        {
            outcome = Take();
        }

        if (!outcome.IsUnchanged)
        {
            Reloaded?.Invoke(outcome);
        }

        return outcome;
    }

    /// <summary>Stops watching.</summary>
    public void Dispose()
    {
        foreach (IDisposable held in _held)
        {
            held.Dispose();
        }

        _held.Clear();
    }

    private KvReloadOutcome Take()
    {
        KvConfiguration read;
        try
        {
            read = KvConfiguration.Load(_sources);
        }
        catch (Exception error) when (error is KvCacheException or IOException or UnauthorizedAccessException)
        {
            return new KvReloadOutcome([], [], error);
        }

        KvSettingChange[] changes =
        [
            .. Current.Settings.Zip(read.Settings).Where(pair => pair.First.Value != pair.Second.Value)
                .Select(pair => new KvSettingChange(pair.First.Key, pair.First.Value, pair.Second.Value, pair.Second.Origin)),
        ];
        ILookup<bool, KvSettingChange> byLive = changes.ToLookup(change => KvConfigurationKeys.Find(change.Key)!.IsLive);
        if (byLive[true].Any())
        {
            KvConfiguration merged = Current.With(read, [.. byLive[true].Select(change => change.Key)]);
            _apply(merged.Config);
            Current = merged;
        }

        return new KvReloadOutcome([.. byLive[true]], [.. byLive[false]], null);
    }

    private IEnumerable<Func<IChangeToken?>> Watches(KvConfigurationSources sources)
    {
        foreach (string path in new[] { sources.File, sources.EnvFile }.OfType<string>())
        {
            string whole = Path.GetFullPath(path);
            PhysicalFileProvider folder = new(Path.GetDirectoryName(whole)!, Microsoft.Extensions.FileProviders.Physical.ExclusionFilters.None)
            {
                UsePollingFileWatcher = true,
                UseActivePolling = true,
            };
            _held.Add(folder);
            yield return () => folder.Watch(Path.GetFileName(whole));
        }
    }
}
