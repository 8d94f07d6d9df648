namespace KvCacheGpu.Configuration.Tests.Upgrade;

/// <summary>The upgrade as a run: its checklist, its further steps, its undoing.</summary>
public class UpgradeTests
{
    private const string File = "config/kv_cache.yaml", Old = "kv_cache:\n  max_tokens: 7\n", Env = "KV_CACHE_SIZE=7\n";

    [Fact]
    public void A_run_tells_the_guides_checklist_and_is_undone_by_its_name()
    {
        using DiskProject project = Filled();
        var upgrade = new KvUpgrade(project.Manager());
        var lines = new List<KvUpgradeLine>();
        var warnings = new List<string>();
        KvUpgradeRun run = upgrade.Run(lines.Add, warnings.Add)!;
        Assert.Equal(KvUpgradeState.Done, run.State);
        Assert.Equal(["backup", "configuration", "environment"], run.Steps.Select(step => step.Name));
        string[] told = [.. lines.Select(line => line.ToString())];
        Assert.Contains($"[x] Write down the current version: {File} 2.0, .env 1.x, environment says nothing", told);
        Assert.Contains($"[x] Back up the configuration: {run.Id}", told);
        Assert.Contains($"[x] Migrate the configuration: {File} from 2.0 to 2.1", told);
        Assert.Contains("[x] Update the environment variables: .env from 1.x to 2.1", told);
        Assert.Contains("[ ] Back up the whole system: yours to do", told);
        Assert.Contains("[x] Verify: version 2.1, backup whole", told);
        Assert.Contains(warnings, warning => warning.Contains(V1ToV20.LossWarning, StringComparison.Ordinal));
        Assert.Null(upgrade.Run());

        project.Write(File, "mine: 1\n");
        Assert.Equal(KvUpgradeState.RolledBack, upgrade.Rollback(run.Id, warnings.Add).State);
        Assert.Equal((Old, Env), (project.Read(File), project.Read(".env")));
        KvConfigBackup kept = project.Manager().ListBackups()[0];
        Assert.Contains(kept.Id, warnings[^1], StringComparison.Ordinal);
        project.Manager().RestoreFromBackup(kept);
        Assert.Equal("mine: 1\n", project.Read(File));
        Assert.Throws<KvSnapshotNotFoundException>(() => upgrade.Rollback());
        Assert.Throws<KvSnapshotNotFoundException>(() => upgrade.Rollback("20000101-000000-000"));
    }

    [Fact]
    public void Lossless_goes_into_the_run()
    {
        using DiskProject project = Filled();
        new KvUpgrade(project.Manager(), lossless: true).Run(null, _ => Assert.Fail("nothing to warn of"));
        Assert.Contains("KV_CACHE_USE_COMPRESSION=false", project.Read(".env"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("do")]
    [InlineData("verify")]
    public void A_further_step_that_fails_undoes_all(string where)
    {
        using DiskProject project = Filled();
        var step = new Step { FailsAt = where };
        Assert.Throws<InvalidOperationException>(() => new KvUpgrade(project.Manager(), further: [step]).Run());
        Assert.Equal((Old, Env), (project.Read(File), project.Read(".env")));
        Assert.Equal(where == "do" ? ["plan", "do", "undo"] : ["plan", "do", "verify", "undo"], step.Calls);
        Assert.Equal(KvUpgradeState.RolledBack, new KvUpgrade(project.Manager()).ListRuns().Single().State);
    }

    [Fact]
    public void A_run_that_was_interrupted_goes_on_with_the_plan_that_it_wrote_down()
    {
        using DiskProject project = Filled();
        var dying = new Step { FailsAt = "do", UndoFails = true };
        Assert.True(Assert.Throws<KvPersistenceException>(() => new KvUpgrade(project.Manager(), further: [dying]).Run()).OutcomeUnknown);
        Assert.Equal(KvUpgradeState.RollingBack, new KvUpgrade(project.Manager()).ListRuns().Single().State);

        Assert.Throws<KvUnsupportedException>(() => new KvUpgrade(project.Manager()).Rollback());
        var step = new Step();
        KvUpgradeRun run = new KvUpgrade(project.Manager(), further: [step]).Run()!;
        Assert.Equal(["undo", "plan", "do", "verify"], step.Calls);
        Assert.Equal(["backup", "configuration", "environment", "data"], run.Steps.Select(one => one.Name));
        Assert.DoesNotContain("SIZE=7", project.Read(".env").Replace("PREFETCH_SIZE", "", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("kv_cache: [")]
    [InlineData("version: 99\nkv_cache: {}")]
    public void A_pre_check_that_fails_changes_nothing(string text)
    {
        using DiskProject project = Filled();
        project.Write(File, text);
        Assert.ThrowsAny<KvCacheException>(() => new KvUpgrade(project.Manager()).Run());
        Assert.Equal((text, Env), (project.Read(File), project.Read(".env")));
        Assert.Empty(project.Manager().ListBackups());
    }

    private static DiskProject Filled()
    {
        var project = new DiskProject();
        project.Write(File, Old);
        project.Write(".env", Env);
        return project;
    }

    private sealed class Step : IUpgradeStep
    {
        public List<string> Calls { get; } = [];

        public string? FailsAt { get; init; }

        public bool UndoFails { get; init; }

        public string Name => "data";

        public string Title => "Migrate the data";

        public string? Plan()
        {
            Calls.Add("plan");
            return "the plan";
        }

        public string Do(string plan)
        {
            Note("do", plan, FailsAt == "do");
            return "done";
        }

        public void Undo(string plan) => Note("undo", plan, UndoFails);

        public void Verify(string plan) => Note("verify", plan, FailsAt == "verify");

        private void Note(string call, string plan, bool fails)
        {
            Calls.Add(call);
            Assert.Equal("the plan", plan);
            _ = fails ? throw new InvalidOperationException(call) : 0;
        }
    }
}
