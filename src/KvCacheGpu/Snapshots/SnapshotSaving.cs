namespace KvCacheGpu;

/// <summary>Saves sequences of a cache into a store.</summary>
internal static class SnapshotSaving
{
    /// <exception cref="ArgumentException">The name is a tenant's, and the sequence another's.</exception>
    public static void ThrowIfOfAnother(SnapshotName name, KvSequenceOptions sequence, string parameter)
    {
        if (name.Tenant is not null && sequence.Tenant != name.Tenant)
        {
            string whose = sequence.Tenant is { } other ? $"of tenant '{other}'" : "of no tenant";
            throw new ArgumentException($"expected sequences of tenant '{name.Tenant}', whose the snapshot's name is, got one {whose}", parameter);
        }
    }

    /// <summary>Captures the sequences, and writes them while they go on.</summary>
    /// <exception cref="ArgumentException">Two sequences of one name and tenant.</exception>
    public static SnapshotInfo Save(
        CacheState cache, SnapshotStore store, SnapshotName name, SequenceState[]? sequences, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        using CacheCapture capture = CacheCapture.Of(cache, sequences, name.Tenant, cancel);
        SnapshotContent content = capture.Content;
        return content.FirstFlaw() is { } flaw
            ? throw new ArgumentException($"expected {flaw}", nameof(sequences))
            : store.Save(name, content, capture.Read, progress, cancel);
    }
}
