namespace KvCacheGpu;

/// <summary>Sessions on disk.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvPersistenceOptions
{
    /// <summary>True if sessions can be saved and loaded (<c>enable_persistence</c>). The default value is false.</summary>
    public bool EnablePersistence { get; set; }

    /// <summary>Directory of the snapshot store, required with <see cref="EnablePersistence"/> (<c>persistence_path</c>). The default value is null.</summary>
    public string? PersistencePath { get; set; }
}
