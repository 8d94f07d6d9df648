namespace KvCacheGpu.Configuration;

/// <summary>2.0 to 2.1: prefetching, on with 8 pages unless something is written of it.</summary>
internal sealed class V20ToV21 : IConfigStep
{
    private static readonly Setting[] _settings = [new("enable_prefetch", "true"), new("prefetch_size", "8")];

    public KvConfigVersion To => KvConfigVersion.V21;

    public bool IsNeeded(IConfigText text, IConfigText? under) =>
        text.HasSection && !Array.Exists(_settings, setting => text.Find(setting.Key) is not null)
        && new StepChoice(under, Lossless: false, _ => { }).Missing(text, _settings).Count > 0;

    public IConfigText Apply(string path, IConfigText text, StepChoice choice) => text.Add(choice.Missing(text, _settings));
}
