namespace KvCacheGpu.Import;

/// <summary>An entry of an old cache, and the outcome of its import.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Path">Its key as Python prints it, after a slash; empty if the file is one entry.</param>
/// <param name="Outcome">The outcome.</param>
/// <param name="Reason">The reason why it was not imported; null if it was.</param>
public sealed record MappedEntry(string Path, EntryOutcome Outcome, string? Reason)
{
    /// <summary>The loss by rounding, if its elements are float64.</summary>
    public RoundingLoss Loss { get; init; }
}

/// <summary>The outcome of the import of an entry.</summary>
public enum EntryOutcome
{
    /// <summary>Its keys and values are in a sequence.</summary>
    Imported,

    /// <summary>It holds tensors, but they cannot be keys and values of this model, or not at this place.</summary>
    Quarantined,

    /// <summary>It holds no tensor.</summary>
    Refused,
}
