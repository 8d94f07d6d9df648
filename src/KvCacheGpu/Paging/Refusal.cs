namespace KvCacheGpu;

/// <summary>Why something does not fit; becomes text only where it is thrown.</summary>
internal readonly record struct Refusal(string What, long Most, long Needed, string Unit)
{
    /// <summary>Unit of what is there in bytes, but in slabs of other sizes.</summary>
    public const string InSlabs = "bytes in slabs of their size";

    public KvOutOfMemoryException ToException() => new(What, $"at most {Math.Max(0, Most)} {Unit}", $"{Needed} {Unit}");
}
