namespace KvCacheGpu.Configuration;

/// <summary>The journals of upgrades, each one file, replaced at every step.</summary>
internal sealed class RunStore(RootedFiles files)
{
    private const string Kind = "run";
    private const string Suffix = ".run";

    public void Save(KvUpgradeRun run) => files.Replace(PathOf(run.Id), SealedText.Write(Kind, run, RunJson.Default.KvUpgradeRun));

    /// <summary>The newest first.</summary>
    public IReadOnlyList<KvUpgradeRun> List() =>
    [
        .. files.List(StateFolder.Runs)
            .Where(name => name.EndsWith(Suffix, StringComparison.Ordinal))
            .Select(name => SealedText.Read(Kind, $"{StateFolder.Runs}/{name}", files.Read($"{StateFolder.Runs}/{name}", SealedText.MostBytes)!, RunJson.Default.KvUpgradeRun))
            .OrderByDescending(run => run.Created).ThenByDescending(run => run.Id.Length).ThenByDescending(run => run.Id, StringComparer.Ordinal),
    ];

    private static string PathOf(string id) => $"{StateFolder.Runs}/{id}{Suffix}";
}
