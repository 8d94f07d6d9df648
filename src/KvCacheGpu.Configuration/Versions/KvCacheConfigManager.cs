using System.Collections;

namespace KvCacheGpu.Configuration;

/// <summary>
/// Finds out whether a configuration is of an older version, brings it to the newest, backs it up and restores it. What changes several files changes all of
/// them or none; what was interrupted is completed first. Linux only.
/// </summary>
/// <remarks>
/// One at a time beneath a root: another gets <see cref="KvStoreBusyException"/>.
/// Thread safety: it is used by one thread at a time.
/// </remarks>
public sealed class KvCacheConfigManager
{
    /// <summary>How many backups stay unless told otherwise; those of upgrades come on top.</summary>
    public const int DefaultKeep = 20;

    private readonly IReadOnlyDictionary<string, string?>? _environment;

    /// <summary>Manages the configuration that lies there.</summary>
    /// <param name="location">Where. Default: in the current folder, see <see cref="KvConfigLocation.Find"/>.</param>
    /// <param name="keep">Backups to keep. The default value is <see cref="DefaultKeep"/>.</param>
    /// <exception cref="KvUnsupportedException">Not on Linux (E009).</exception>
    public KvCacheConfigManager(KvConfigLocation? location = null, int keep = DefaultKeep)
        : this(location ?? KvConfigLocation.Find(), LibcFiles.Instance, TimeProvider.System, keep, null)
    {
    }

    internal KvCacheConfigManager(
        KvConfigLocation location, IStoreFiles files, TimeProvider clock, int keep = DefaultKeep, IReadOnlyDictionary<string, string?>? environment = null)
    {
        ArgumentNullException.ThrowIfNull(location);
        ArgumentOutOfRangeException.ThrowIfLessThan(keep, 1);
        (Location, Clock, _environment) = (location, clock, environment);
        Files = new RootedFiles(files, location.Root);
        Backups = new BackupStore(Files, clock, keep);
    }

    /// <summary>Where the configuration lies.</summary>
    public KvConfigLocation Location { get; }

    internal RootedFiles Files { get; }

    internal BackupStore Backups { get; }

    internal TimeProvider Clock { get; }

    /// <summary>True if nothing was ever done here: there are no backups, no runs and no journal.</summary>
    internal bool IsFresh => new[] { StateFolder.Name, StateFolder.Backups, StateFolder.Runs }
        .All(folder => Files.List(folder, withTemporaries: true).All(name => folder == StateFolder.Name && name is (StateFolder.LockName or StateFolder.BackupsName or StateFolder.RunsName)));

    /// <summary>True if a file is of a version before 2.1: v1 keys, KV_CACHE_SIZE, or a 2.0 configuration that says nothing of prefetching.</summary>
    /// <exception cref="KvConfigurationException">A file is malformed (E003); its line is named.</exception>
    /// <exception cref="KvNewerVersionException">A file declares a newer schema (E007).</exception>
    public bool DetectOldFormat()
    {
        Recover();
        return ConfigFiles.Read(Files, Location).IsOld;
    }

    /// <summary>The versions of the file, of .env and of the process's environment, which no migration can change.</summary>
    public IReadOnlyList<KvConfigSource> DetectVersions()
    {
        Recover();
        var files = ConfigFiles.Read(Files, Location);
        return [new(Location.File, files.FileVersion), new(Location.Env, files.EnvVersion), new("environment", EnvironmentVersion())];
    }

    /// <summary>Saves the files as they are, be they malformed, under a name made of the time.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is neither file (E002).</exception>
    public KvConfigBackup BackupCurrentConfig()
    {
        _ = IsFresh ? RequireImages() : [];
        return Locked(() => Backup("by hand"));
    }

    /// <summary>Brings both files to version 2.1, a backup made before. Where nothing is old, nothing changes.</summary>
    /// <param name="lossless">Leaves lossy compression off where the rule of 1.x would switch it on.</param>
    /// <param name="dryRun">Only tells what would change.</param>
    public KvConfigMigration MigrateToNewFormat(bool lossless = false, bool dryRun = false) =>
        dryRun ? MigrateFiles(lossless, dryRun) : MigrationActivity.Run(() => MigrateFiles(lossless, dryRun), migration => migration.Files.Count);

    private KvConfigMigration MigrateFiles(bool lossless, bool dryRun)
    {
        // In a fresh folder, what is refused and what has nothing to change leaves nothing behind.
        KvConfigMigration? looked = dryRun || IsFresh ? Migrate(lossless, dryRun: true) : null;
        return looked is not null && (dryRun || looked.Files.Count == 0) ? looked : Locked(() => Migrate(lossless, dryRun));
    }

    /// <summary>All backups, the newest first. Damaged ones are listed as such.</summary>
    public IReadOnlyList<KvConfigBackup> ListBackups() => Backups.List();

    /// <summary>Puts a backup's files back, byte for byte and with their permissions; files that it does not hold stay. What was there is backed up before.</summary>
    /// <returns>The backup of what was there; null where it held nothing that no backup holds.</returns>
    /// <exception cref="KvCorruptionException">The backup was altered (E004). Nothing has changed.</exception>
    /// <exception cref="KvSnapshotNotFoundException">There is no such backup (E002).</exception>
    public KvConfigBackup? RestoreFromBackup(KvConfigBackup backup)
    {
        ArgumentNullException.ThrowIfNull(backup);
        return RestoreFromBackup(backup.Id);
    }

    /// <inheritdoc cref="RestoreFromBackup(KvConfigBackup)"/>
    public KvConfigBackup? RestoreFromBackup(string id)
    {
        ArgumentNullException.ThrowIfNull(id);
        _ = IsFresh ? Backups.Load(id) : [];
        return Locked(() =>
        {
            FileChange[] changes = [.. Backups.Load(id).Select(file => new FileChange(file.Path, Files.Read(file.Path, TextFile.MostBytes), file.Image))];
            KvConfigBackup? before = changes.All(change => change.Before == change.After) ? null : SaveUnlessHeld("before a restore");
            new ChangeJournal(Files).Apply(changes);
            return before;
        });
    }

    /// <summary>Completes a change of files that was interrupted; every other method does so first.</summary>
    public void Recover()
    {
        if (new ChangeJournal(Files).IsOpen)
        {
            Locked(() => 0);
        }
    }

    /// <summary>Saves the files unless a backup holds the same bytes already; null where one does, or there are none.</summary>
    internal KvConfigBackup? SaveUnlessHeld(string reason)
    {
        IReadOnlyList<(string Path, FileImage Image)> images = ConfigFiles.ReadImages(Files, Location);
        bool isHeld = Backups.List().Any(backup => backup.Flaw is null && backup.Files.Count >= images.Count && Holds(backup.Id, images));
        return images.Count == 0 || isHeld ? null : Backup(reason);
    }

    internal KvConfigBackup Backup(string reason, string? id = null)
    {
        IReadOnlyList<(string Path, FileImage Image)> images = RequireImages();
        return Backups.Save(id ?? Backups.NewId(), VersionName(), reason, images);
    }

    internal T Locked<T>(Func<T> work)
    {
        using IDisposable held = Files.Lock(StateFolder.Lock);
        Files.Sweep([Location.File, Location.Env], [StateFolder.Name, StateFolder.Backups, StateFolder.Runs]);
        new ChangeJournal(Files).Recover();
        return work();
    }

    /// <summary>A warning for variables of 1.x that the process was started with.</summary>
    internal string? EnvironmentWarning() => EnvironmentVersion() == KvConfigVersion.V1
        ? "KV_CACHE_SIZE is set in the environment, which no migration changes: set KV_CACHE_MAX_TOKENS there"
        : null;

    private KvConfigMigration Migrate(bool lossless, bool dryRun)
    {
        var warnings = new List<string>();
        if (EnvironmentWarning() is { } warning)
        {
            warnings.Add(warning);
        }

        (FileChange Change, KvMigratedFile Told)[] changes = [.. ConfigFiles.Read(Files, Location).Migrate(lossless, warnings.Add)];
        KvConfigBackup? backup = null;
        if (!dryRun && changes.Length > 0)
        {
            backup = SaveUnlessHeld("before a migration");
            new ChangeJournal(Files).Apply([.. changes.Select(change => change.Change)]);
        }

        return new KvConfigMigration([.. changes.Select(change => change.Told)], warnings, backup);
    }

    private IReadOnlyList<(string Path, FileImage Image)> RequireImages() => ConfigFiles.ReadImages(Files, Location) is { Count: > 0 } images
        ? images
        : throw new KvSnapshotNotFoundException("configuration", $"{Location.File} or {Location.Env} in {Location.Root}", "neither");

    private bool Holds(string id, IReadOnlyList<(string Path, FileImage Image)> images)
    {
        IReadOnlyList<(string Path, FileImage Image)> held = Backups.Load(id);
        return images.All(held.Contains);
    }

    private string VersionName()
    {
        try
        {
            return ConfigFiles.Read(Files, Location).VersionName;
        }
        catch (KvCacheException error) when (error is KvConfigurationException or KvNewerVersionException)
        {
            return "unknown";
        }
    }

    private KvConfigVersion? EnvironmentVersion()
    {
        IEnumerable<(string Name, string? Value)> variables = _environment is not null
            ? _environment.Select(one => (one.Key, one.Value))
            : Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(one => ((string)one.Key, (string?)one.Value));
        string text = string.Concat(variables
            .Where(one => one.Name.StartsWith(EnvVariables.Prefix, StringComparison.Ordinal) && one.Name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
            .Select(one => $"{one.Name}={EnvValue.Quoted(one.Value ?? string.Empty)}\n"));
        return ConfigMigration.VersionOf("environment", EnvText.Parse("environment", text), null);
    }
}
