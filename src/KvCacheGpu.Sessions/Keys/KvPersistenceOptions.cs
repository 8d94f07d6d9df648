namespace KvCacheGpu;

/// <summary>Where <c>UltraAdaptiveKvCacheEngine</c> keeps sessions beyond the process.</summary>
public sealed record KvPersistenceOptions
{
    /// <summary>Whether sessions can be saved and loaded (<c>enable_persistence</c>). The default value is false.</summary>
    public bool EnablePersistence { get; set; }

    /// <summary>Directory of the snapshot store, required with <see cref="EnablePersistence"/> (<c>persistence_path</c>). The default value is null.</summary>
    public string? PersistencePath { get; set; }
}
