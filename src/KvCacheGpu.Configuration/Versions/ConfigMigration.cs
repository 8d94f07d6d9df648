namespace KvCacheGpu.Configuration;

/// <summary>All steps in order, and what they make of a text.</summary>
internal static class ConfigMigration
{
    private static readonly IConfigStep[] _steps = [new V1ToV20(), new V20ToV21()];

    /// <summary>The version of a text: the one before the first step that it needs. Null where it configures nothing.</summary>
    /// <exception cref="KvNewerVersionException">It declares a newer schema (E007).</exception>
    public static KvConfigVersion? VersionOf(string path, IConfigText text, IConfigText? under)
    {
        KvConfigVersions.CheckDeclared(path, text.DeclaredVersion);
        return Array.Find(_steps, step => step.IsNeeded(text, under)) is { } first ? first.To - 1
            : text.HasSection ? KvConfigVersion.V21
            : null;
    }

    public static IConfigText Migrate(string path, IConfigText text, StepChoice choice)
    {
        KvConfigVersions.CheckDeclared(path, text.DeclaredVersion);
        foreach (IConfigStep step in _steps)
        {
            text = step.IsNeeded(text, choice.Under) ? step.Apply(path, text, choice) : text;
        }

        return text;
    }
}
