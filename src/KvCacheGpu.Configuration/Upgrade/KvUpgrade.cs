namespace KvCacheGpu.Configuration;

/// <summary>
/// The whole upgrade as one journalled run: pre-checks, backup, configuration, environment, further steps, verification. Interrupted anywhere, the next
/// <see cref="Run"/> goes on; what fails is undone; a run that is done is undone by its name, byte for byte.
/// </summary>
/// <remarks>Thread safety: it is used by one thread at a time.</remarks>
public sealed class KvUpgrade
{
    private readonly KvCacheConfigManager _manager;
    private readonly bool _lossless;
    private readonly IReadOnlyList<IUpgradeStep> _further;
    private readonly RunStore _runs;

    /// <summary>An upgrade of a configuration, and of what further steps take care of.</summary>
    /// <param name="manager">The configuration.</param>
    /// <param name="lossless">Leaves lossy compression off where the rule of 1.x would switch it on. The default value is false.</param>
    /// <param name="further">Steps between the environment and the verification: data, database. The default value is null: none.</param>
    public KvUpgrade(KvCacheConfigManager manager, bool lossless = false, IReadOnlyList<IUpgradeStep>? further = null)
    {
        ArgumentNullException.ThrowIfNull(manager);
        (_manager, _lossless, _further) = (manager, lossless, further ?? []);
        _runs = new RunStore(manager.Files);
    }

    /// <summary>All runs, the newest first.</summary>
    public IReadOnlyList<KvUpgradeRun> ListRuns() => _runs.List();

    /// <summary>Upgrades, or goes on with what was interrupted.</summary>
    /// <param name="tell">Takes the checklist's lines as they come true.</param>
    /// <param name="warn">Takes what the user must know.</param>
    /// <returns>The run; null where all is of the newest version already.</returns>
    /// <exception cref="KvCacheException">A step failed; what was done is undone, unless a <see cref="KvPersistenceException"/> says that the outcome is unknown.</exception>
    public KvUpgradeRun? Run(Action<KvUpgradeLine>? tell = null, Action<string>? warn = null) =>
        MigrationActivity.Run(() => RunAll(tell, warn), run => run?.Steps.Count(entry => entry.Plan is not null) ?? 0);

    private KvUpgradeRun? RunAll(Action<KvUpgradeLine>? tell, Action<string>? warn)
    {
        var list = new Checklist(tell ?? (_ => { }));
        if (!_manager.IsFresh)
        {
            return _manager.Locked(() => Proceed(list, null, warn));
        }

        // In a fresh folder, what is refused and what has nothing to change leaves nothing behind.
        list.Checked(_manager, null);
        KvUpgradeRun planned = Begin(warn);
        return HasNothing(planned) ? Finish(list, planned, warn) : _manager.Locked(() => Proceed(list, planned, warn));
    }

    private KvUpgradeRun? Proceed(Checklist list, KvUpgradeRun? planned, Action<string>? warn)
    {
        KvUpgradeRun? open = _runs.List().FirstOrDefault(one => one.State is KvUpgradeState.Running or KvUpgradeState.RollingBack);
        if (open?.State == KvUpgradeState.RollingBack)
        {
            warn?.Invoke($"the rollback of {open.Id} was interrupted and is finished first");
            Undo(open);
            open = null;
        }

        // What was planned before the lock holds while nobody else has done anything here.
        KvUpgradeRun? still = _manager.IsFresh ? planned : null;
        if (planned is null)
        {
            list.Checked(_manager, open);
        }

        KvUpgradeRun run = open ?? still ?? Begin(warn);
        IUpgradeStep[] steps = Steps(run.Id, warn);
        if (HasNothing(run))
        {
            return Finish(list, run, warn);
        }

        try
        {
            // Written before the first step: from here on the run is known to whoever comes next.
            _runs.Save(run);
            run = Do(steps, run);
            Verify(steps, run);
            run = run with { State = KvUpgradeState.Done };
            _runs.Save(run);
        }
        catch (Exception error)
        {
            UndoAfter(error, run);
            throw;
        }

        list.Finish(steps, run, "version 2.1, backup whole");
        return run;
    }

    /// <summary>Undoes a run. What the files hold now is backed up before, unless a backup holds it.</summary>
    /// <param name="id">The run's name. Default: the newest that is done, or interrupted.</param>
    /// <param name="warn">Takes what the user must know.</param>
    /// <exception cref="KvSnapshotNotFoundException">There is no such run (E002).</exception>
    /// <exception cref="KvCorruptionException">Its backup was altered (E004). Nothing has changed.</exception>
    public KvUpgradeRun Rollback(string? id = null, Action<string>? warn = null)
    {
        _ = _manager.IsFresh ? Find(id) : null;
        return _manager.Locked(() => Reverse(Find(id), warn));
    }

    private KvUpgradeRun Find(string? id) => _runs.List().FirstOrDefault(one => id is null ? one.State != KvUpgradeState.RolledBack : one.Id == id)
        ?? throw new KvSnapshotNotFoundException("run", id is null ? "an upgrade that can be undone" : "the id of an upgrade", id is null ? "none" : $"'{id}'");

    private KvUpgradeRun Reverse(KvUpgradeRun run, Action<string>? warn)
    {
        if (run.State == KvUpgradeState.RolledBack)
        {
            return run;
        }

        if (run.Steps.Any(entry => entry is { Name: "backup", Result: not null }))
        {
            // Refused before anything changes, if the backup does not hold.
            _manager.Backups.Load(run.Id);
        }

        if (_manager.SaveUnlessHeld("before a rollback") is { } saved)
        {
            warn?.Invoke($"what the files held is kept in backup {saved.Id}");
        }

        return Undo(run);
    }

    private static bool HasNothing(KvUpgradeRun run) => run.Steps.All(entry => entry.Plan is null || entry.Name == "backup");

    private KvUpgradeRun? Finish(Checklist list, KvUpgradeRun run, Action<string>? warn)
    {
        list.Finish(Steps(run.Id, warn), run, "all is of version 2.1");
        return null;
    }

    private KvUpgradeRun Begin(Action<string>? warn)
    {
        string id = _manager.Backups.NewId();
        return new KvUpgradeRun(
            id, _manager.Clock.GetUtcNow(), KvUpgradeState.Running, [.. Steps(id, warn).Select(step => new KvUpgradeEntry(step.Name, step.Plan(), null))]);
    }

    private IUpgradeStep[] Steps(string id, Action<string>? warn) =>
    [
        new BackupStep(_manager, id),
        new FileStep(_manager, id, "configuration", "Migrate the configuration", _manager.Location.File, _lossless, warn ?? (_ => { })),
        new FileStep(_manager, id, "environment", "Update the environment variables", _manager.Location.Env, _lossless, warn ?? (_ => { })),
        .. _further,
    ];

    private KvUpgradeRun Do(IUpgradeStep[] steps, KvUpgradeRun run)
    {
        foreach (KvUpgradeEntry entry in run.Steps)
        {
            if (entry is { Plan: { } plan, Result: null })
            {
                string result = Find(steps, entry).Do(plan);
                run = run with { Steps = [.. run.Steps.Select(one => one.Name == entry.Name ? one with { Result = result } : one)] };
                _runs.Save(run);
            }
        }

        return run;
    }

    private static void Verify(IUpgradeStep[] steps, KvUpgradeRun run)
    {
        foreach (KvUpgradeEntry entry in run.Steps.Where(entry => entry.Plan is not null))
        {
            Find(steps, entry).Verify(entry.Plan!);
        }
    }

    private KvUpgradeRun Undo(KvUpgradeRun run)
    {
        IUpgradeStep[] steps = Steps(run.Id, null);
        (IUpgradeStep Step, string Plan)[] planned = [.. run.Steps.Where(entry => entry.Plan is not null).Select(entry => (Find(steps, entry), entry.Plan!))];
        run = run with { State = KvUpgradeState.RollingBack };
        _runs.Save(run);
        foreach ((IUpgradeStep step, string plan) in planned.Reverse())
        {
            step.Undo(plan);
        }

        run = run with { State = KvUpgradeState.RolledBack };
        _runs.Save(run);
        return run;
    }

    private void UndoAfter(Exception error, KvUpgradeRun run)
    {
        try
        {
            new ChangeJournal(_manager.Files).Recover();
            Undo(run);
        }
        catch (Exception second) when (second is not OutOfMemoryException)
        {
            throw new KvPersistenceException(
                $"upgrade {run.Id}", "all steps, or none", $"{error.Message}, and its rollback stopped: {second.Message}; kvcache migrate goes on, kvcache rollback undoes it",
                error, outcomeUnknown: true);
        }
    }

    private static IUpgradeStep Find(IUpgradeStep[] steps, KvUpgradeEntry entry) => Array.Find(steps, step => step.Name == entry.Name)
        ?? throw new KvUnsupportedException($"step {entry.Name} of an upgrade", "the tool that began it, with the same options", "none here that knows the step");
}
