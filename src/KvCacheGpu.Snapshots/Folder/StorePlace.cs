namespace KvCacheGpu;

/// <summary>The place where a store lies, and how it is read and written.</summary>
/// <param name="Files">The file system.</param>
/// <param name="Path">The store's directory, a full path.</param>
/// <param name="Options">Key, workers, and the rest; checked.</param>
internal sealed record StorePlace(IStoreFiles Files, string Path, SnapshotOptions Options)
{
    /// <summary>Opens the directory to read it.</summary>
    public StoreFolder Open() => StoreFolder.Open(Files, Path, Options.AcceptsSharedDirectory);

    /// <summary>Opens the directory to write to it, and makes it if it is not there.</summary>
    public StoreFolder OpenOrMake() => StoreFolder.OpenOrMake(Files, Path, Options.AcceptsSharedDirectory);

    /// <summary>The error for a snapshot that is not here.</summary>
    public KvSnapshotNotFoundException NotFound(string name) => new($"snapshot '{name}'", $"it in {Path}", "none of that name");

    /// <summary>Does some work, and turns a failed file call into an error with a code.</summary>
    /// <exception cref="KvPersistenceException">A file call failed (E005).</exception>
    public T Guarded<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (FileCallException error)
        {
            string what = error.OutcomeUnknown ? $"{error.Message}; whether it was done cannot be found out" : error.Message;
            throw new KvPersistenceException($"store {Path}", "that the file system does as asked", what, error, error.OutcomeUnknown);
        }
    }
}
