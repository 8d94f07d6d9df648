namespace KvCacheGpu.Configuration;

/// <summary>One step from a version to the next. Where it is not needed, it changes nothing; so twice is once.</summary>
internal interface IConfigStep
{
    /// <summary>What it makes of a text older than this.</summary>
    KvConfigVersion To { get; }

    bool IsNeeded(IConfigText text, IConfigText? under);

    IConfigText Apply(string path, IConfigText text, StepChoice choice);
}

/// <summary>What a step goes by.</summary>
/// <param name="Under">For variables the configuration's file, which they override; else null.</param>
/// <param name="Lossless">True if lossy compression stays off.</param>
/// <param name="Warn">Takes what the user must know.</param>
internal sealed record StepChoice(IConfigText? Under, bool Lossless, Action<string> Warn)
{
    /// <summary>Those that are not written yet, neither here nor, with another value, in the file that this would override.</summary>
    public IReadOnlyList<Setting> Missing(IConfigText text, params ReadOnlySpan<Setting> settings)
    {
        var missing = new List<Setting>();
        foreach (Setting setting in settings)
        {
            if (text.Find(setting.Key) is null
                && (Under?.Find(setting.Key) is not { } written || string.Equals(written, setting.Value, StringComparison.OrdinalIgnoreCase)))
            {
                missing.Add(setting);
            }
        }

        return missing;
    }
}
