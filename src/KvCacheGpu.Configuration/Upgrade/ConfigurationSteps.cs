namespace KvCacheGpu.Configuration;

/// <summary>Saves the configuration's files under the run's name. The backup stays when the run is undone.</summary>
internal sealed class BackupStep(KvCacheConfigManager manager, string id) : IUpgradeStep
{
    public string Name => "backup";

    public string Title => "Back up the configuration";

    public string? Plan() => ConfigFiles.ReadImages(manager.Files, manager.Location).Count > 0 ? id : null;

    public string Do(string plan)
    {
        if (!manager.Backups.List().Any(backup => backup.Id == plan))
        {
            manager.Backup(BackupStore.ForUpgrade, plan);
        }

        return plan;
    }

    public void Undo(string plan)
    {
    }

    public void Verify(string plan) => manager.Backups.Load(plan);
}

/// <summary>Brings one file to the newest version; undone, it has the bytes of the run's backup again.</summary>
internal sealed class FileStep(KvCacheConfigManager manager, string id, string name, string title, string path, bool lossless, Action<string> warn) : IUpgradeStep
{
    public string Name => name;

    public string Title => title;

    // The path is written down, so that a run goes on with the files that it began with.
    public string? Plan() => Change(_ => { }) is null ? null : path;

    public string Do(string plan)
    {
        if (plan != path)
        {
            throw new KvConfigurationException($"run {id}, which was interrupted", $"the file that it began with, {plan}", path);
        }

        if (Change(warn) is not { } found)
        {
            return $"{path} is of version 2.1";
        }

        new ChangeJournal(manager.Files).Apply([found.Change]);
        return $"{path} from {found.Told.From.Name()} to {found.Told.To.Name()}";
    }

    public void Undo(string plan)
    {
        // Without a backup the run stopped before any file was changed.
        if (manager.Backups.List().Any(backup => backup.Id == id))
        {
            FileImage image = manager.Backups.Load(id).Single(file => file.Path == plan).Image;
            new ChangeJournal(manager.Files).Apply([new FileChange(plan, manager.Files.Read(plan, TextFile.MostBytes), image)]);
        }
    }

    public void Verify(string plan)
    {
        if (Change(_ => { }) is { } left)
        {
            throw new KvCorruptionException(path, "version 2.1", left.Told.From.Name());
        }
    }

    private (FileChange Change, KvMigratedFile Told)? Change(Action<string> told)
    {
        foreach ((FileChange Change, KvMigratedFile Told) one in ConfigFiles.Read(manager.Files, manager.Location).Migrate(lossless, told))
        {
            if (one.Told.Path == path)
            {
                return one;
            }
        }

        return null;
    }
}
