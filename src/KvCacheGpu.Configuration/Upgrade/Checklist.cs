namespace KvCacheGpu.Configuration;

/// <summary>The guide's checklist: what the run does, and what remains the user's.</summary>
internal sealed class Checklist(Action<KvUpgradeLine> tell)
{
    private const string Before = "Before", During = "Migration", After = "After";
    private const string NotHere = "not part of this run";

    /// <summary>The pre-checks: all versions known, every file well-formed, the folder writable (its lock is held). Changes nothing.</summary>
    /// <exception cref="KvCacheException">A check failed: malformed (E003), newer (E007).</exception>
    public void Checked(KvCacheConfigManager manager, KvUpgradeRun? open)
    {
        string versions = string.Join(", ", manager.DetectVersions().Select(one => $"{one.Source} {one.Version?.Name() ?? "says nothing"}"));
        tell(new(Before, KvUpgradeMark.Yours, "Back up the whole system", "yours to do"));
        tell(new(Before, KvUpgradeMark.Done, "Write down the current version", versions));
        tell(new(Before, KvUpgradeMark.Done, "Check what the new version needs", open is null ? "files well-formed, folder writable" : $"run {open.Id} was interrupted and goes on"));
    }

    /// <summary>The rest, once all has come true.</summary>
    public void Finish(IUpgradeStep[] steps, KvUpgradeRun run, string verified)
    {
        tell(new(During, KvUpgradeMark.Yours, "Update your code", "only from 1.x: docs/migration.md"));
        foreach (IUpgradeStep step in steps)
        {
            KvUpgradeEntry? entry = run.Steps.FirstOrDefault(one => one.Name == step.Name);
            string phase = step.Name == "backup" ? Before : During;
            tell(entry?.Result is { } result ? new(phase, KvUpgradeMark.Done, step.Title, result) : new(phase, KvUpgradeMark.Nothing, step.Title, "nothing to do"));
        }

        foreach ((string name, string title) in new[] { ("data", "Back up and migrate the cache's data"), ("database", "Back up and migrate the database") })
        {
            if (!Array.Exists(steps, step => step.Name == name))
            {
                tell(new(During, KvUpgradeMark.Yours, title, NotHere));
            }
        }

        tell(new(During, KvUpgradeMark.Yours, "Run your tests", "yours to do"));
        tell(new(After, KvUpgradeMark.Done, "Verify", verified));
        tell(new(After, KvUpgradeMark.Yours, "Watch metrics and logs, note what you find, update your documents", "yours to do"));
    }
}
