namespace KvCacheGpu.Import;

/// <summary>An entry of an old cache, and what became of it.</summary>
/// <param name="Path">Its key as Python prints it, after a slash; empty where the file is one entry.</param>
/// <param name="Outcome">What became of it.</param>
/// <param name="Reason">Why it was not imported; null where it was.</param>
public sealed record MappedEntry(string Path, EntryOutcome Outcome, string? Reason)
{
    /// <summary>What is lost of it, where its elements are float64.</summary>
    public RoundingLoss Loss { get; init; }
}
