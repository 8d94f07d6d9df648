using System.Globalization;

namespace KvCacheGpu.Configuration;

/// <summary>1.x to 2.0, by the rule of the guide: the size and the strategy keep their values; persistence and compression come on.</summary>
internal sealed class V1ToV20 : IConfigStep
{
    public const string LossWarning =
        "lossy compression is on (use_compression, compression_ratio 0.3): a model's output may change; kvcache config migrate --lossless leaves it off";

    private static readonly KvConfigurationKey _strategy = KvConfigurationKeys.Find("cache_strategy")!;

    public KvConfigVersion To => KvConfigVersion.V20;

    public bool IsNeeded(IConfigText text, IConfigText? under) => text.FindOld("kv_cache_size") is not null || text.FindOld("kv_cache_strategy") is not null;

    public IConfigText Apply(string path, IConfigText text, StepChoice choice)
    {
        OldSetting? size = text.FindOld("kv_cache_size"), strategy = text.FindOld("kv_cache_strategy");
        string tokens = Tokens(path, size), name = Strategy(path, strategy);
        if (size is not null && text.Find("max_tokens") is { } newer && newer != tokens)
        {
            choice.Warn($"{path}:{size.Line}: the old size {tokens} goes, max_tokens {newer} was there beside it");
        }

        foreach ((string variable, int line) in (text as EnvText)?.UsersOfOldSize() ?? [])
        {
            choice.Warn($"{path}:{line}: {variable} names {EnvironmentNames.OldSize}, which is {EnvironmentNames.VariableOf("max_tokens")} from now on: write that there");
        }

        bool decidesLoss = text.Find("use_compression") is null && choice.Under?.Find("use_compression") is null;
        if (decidesLoss && !choice.Lossless)
        {
            choice.Warn($"{path}: {LossWarning}");
        }

        var settings = new List<Setting> { new("enable_persistence", "true"), new("persistence_path", "/data/cache", IsText: true) };
        if (text.IsVariables)
        {
            // On is what is so where nothing is said; variables say what differs.
            return text.ReplaceOld([
                .. text.Find("max_tokens") is null ? new[] { new Setting("max_tokens", tokens) } : [],
                .. choice.Missing(text, [.. settings]),
                .. decidesLoss && choice.Lossless ? new[] { new Setting("use_compression", "false") } : [],
            ]);
        }

        Setting[] loss = choice.Lossless ? [new("use_compression", "false")] : [new("use_compression", "true"), new("compression_ratio", "0.3")];
        return text.ReplaceOld(choice.Missing(
            text, [new("max_tokens", tokens), new("cache_strategy", name, IsText: true), .. settings, .. decidesLoss ? loss : []]));
    }

    private static string Tokens(string path, OldSetting? size) =>
        size is null ? "4096"
        // What a variable stands for is known, and checked, where it is read.
        : size.Value.Contains("${", StringComparison.Ordinal) ? size.Value
        : int.TryParse(size.Value, NumberStyles.None, CultureInfo.InvariantCulture, out int tokens) && tokens >= 1 ? size.Value
        : throw new KvConfigurationException($"{path}:{size.Line}: kv_cache_size", "a whole number of 1 or more", $"'{size.Value}'");

    private static string Strategy(string path, OldSetting? strategy) =>
        strategy is null ? "adaptive"
        : _strategy.TryParse(strategy.Value, isVariable: false, out string? name) && name == strategy.Value ? name
        : throw new KvConfigurationException($"{path}:{strategy.Line}: kv_cache_strategy", _strategy.Allowed, $"'{strategy.Value}'");
}
