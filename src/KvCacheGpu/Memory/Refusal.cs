namespace KvCacheGpu;

/// <summary>Why something does not fit; becomes text only where it is thrown.</summary>
internal readonly record struct Refusal(string What, long Most, long Needed, string Unit, bool IsTransient = false)
{
    public KvOutOfMemoryException ToException() => new(What, Most, Needed, Unit) { IsTransient = IsTransient };
}
