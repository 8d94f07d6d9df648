namespace KvCacheGpu.Import;

/// <summary>What became of an entry of an old cache.</summary>
public enum EntryOutcome
{
    /// <summary>Its keys and values are in a sequence.</summary>
    Imported,

    /// <summary>It holds tensors, but they cannot be keys and values of this model, or not where they stand.</summary>
    Quarantined,

    /// <summary>It holds no tensor.</summary>
    Refused,
}
